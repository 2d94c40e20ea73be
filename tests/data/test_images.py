"""Every kind of picture is read; every kind of damage is named."""

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngInfo

from crate_transformers.data import find_images, load_image
from crate_transformers.data.images import decoding as images_module
from crate_transformers.data.images.modes import to_channels
from crate_transformers.errors import UserError


def picture(mode, size=(11, 7)):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(tmp_path, mode, channels):
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        Image.fromarray(np.full((7, 11), 40_000, dtype=np.uint16)).save(path)
    else:
        picture(mode).save(path)
    image = load_image(path, channels)
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert image.size == (11, 7)
    if mode == "I;16":
        assert abs(np.asarray(image).mean() - 40_000 / 256) < 1


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.asarray(load_image(tmp_path / "clear.png")).min() == 255


def test_one_pixel(tmp_path):
    picture("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert load_image(tmp_path / "dot.png").size == (1, 1)


def test_damage_is_named(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image")
    picture("RGB", (90, 70)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, word in (
        ("empty", "empty"),
        ("text", "not an image"),
        ("cut", "truncated"),
        ("missing", "no image file"),
    ):
        with pytest.raises(ValueError, match=word) as error:
            load_image(tmp_path / f"{name}.png")
        assert f"{name}.png" in str(error.value)


def test_too_large_is_named(tmp_path, monkeypatch):
    picture("RGB").save(tmp_path / "large.png")
    monkeypatch.setattr(images_module, "MAX_PIXELS", 76)
    with pytest.raises(ValueError, match="11 x 7 pixels"):
        load_image(tmp_path / "large.png")


def test_find_images(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "deep/er/c.png"):
        picture("RGB").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert [path.name for path in find_images([tmp_path])] == ["a.PNG", "b.png", "c.png"]
    with pytest.raises(ValueError, match="no image file or folder"):
        find_images([tmp_path / "nowhere"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no image in"):
        find_images([tmp_path / "none"])


def png(values, bits, color, chunks=()):
    """The bytes of a PNG. values: (height, width) or (height, width, channels) integers of 1 to 16 bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    wide = ((rows[..., None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in np.packbits(wide, axis=1))
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def tiff(pixels, tags):
    """The bytes of a TIFF of one strip or tile, with 32-bit tags {number: value}; its pixels lie at byte 8."""
    pixels += b"\0" * (len(pixels) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = struct.pack("<I", 8 + len(pixels))
    return b"II*\0" + start + pixels + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


GREY_TIFF = {256: 4, 257: 3, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 3, 279: 12}  # 4 x 3 pixels of 8 bits


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_clear_grey_is_laid_over_white(tmp_path, bits, channels):
    """tRNS in grey PNGs: its value is in the bits of the file, whatever Pillow makes of the pixels."""
    levels = np.array([[0, 1, 2**bits - 1], [1, 0, 1]])
    (tmp_path / "clear.png").write_bytes(png(levels, bits, 0, [(b"tRNS", struct.pack(">H", 1))]))
    image = np.asarray(load_image(tmp_path / "clear.png", channels)).reshape(2, 3, -1)
    assert (image[levels == 1] == 255).all()
    assert (image[levels == 0] == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_clear_colour_is_laid_over_white(tmp_path, bits, channels):
    """Of 16 bits too: colours that differ in their low bytes alone are different."""
    key, near = ((8, 9, 10), (8, 9, 11)) if bits == 8 else ((2048, 9, 10), (2048, 9, 11))
    (tmp_path / "clear.png").write_bytes(png(np.array([[key, near]]), bits, 2, [(b"tRNS", struct.pack(">HHH", *key))]))
    image = np.asarray(load_image(tmp_path / "clear.png", channels)).reshape(2, -1)
    assert (image[0] == 255).all()
    assert (image[1] < 12).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alphas", [b"\xff\x00", b"\x80\x00"])
def test_a_clear_palette_entry_is_laid_over_white(tmp_path, alphas, channels):
    chunks = [(b"PLTE", bytes([0, 0, 0, 9, 9, 9])), (b"tRNS", alphas)]
    (tmp_path / "clear.png").write_bytes(png(np.array([[0, 1]]), 8, 3, chunks))
    image = np.asarray(load_image(tmp_path / "clear.png", channels)).reshape(2, -1)
    assert (image[0] == 255 - alphas[0]).all()
    assert (image[1] == 255).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_an_alpha_channel_is_laid_over_white(mode):
    clear = Image.new("RGBA", (3, 2), (9, 9, 9, 0))
    clear = clear.convert("LA").convert(mode) if mode == "La" else clear.convert(mode)
    for channels in (1, 3):
        assert np.asarray(to_channels(clear, channels)).min() == 255


@pytest.mark.parametrize("mode", ["1", "YCbCr", "CMYK", "HSV", "LAB", "RGBX", "P"])
def test_grey_stays_grey_in_every_mode_of_colour(mode):
    grey = Image.new("RGB", (3, 2), (255, 255, 255) if mode == "1" else (102, 102, 102))
    for channels in (1, 3):
        picture = to_channels(grey.convert(mode), channels)
        assert picture.mode == ("L" if channels == 1 else "RGB")
        assert np.abs(np.asarray(picture).astype(int) - grey.getpixel((0, 0))[0]).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([[0, 0.5, 1]]), [0, 128, 255]),
        (np.float32([[0, 0.5, 1.001]]), [0, 128, 255]),  # a hair beyond, as resizing leaves it
        (np.float32([[0, 100.4, 255]]), [0, 100, 255]),
        (np.int32([[0, 7, 255]]), [0, 7, 255]),
        (np.int32([[0, 256, 65535]]), [0, 1, 255]),
        (np.uint16([[0, 255, 65535]]), [0, 0, 255]),
        (np.uint16([[0, 255, 65535]]).astype(">u2"), [0, 0, 255]),
    ],
)
def test_values_of_more_than_8_bits_are_scaled(tmp_path, values, expected):
    picture = Image.fromarray(values)
    picture.save(tmp_path / "deep.tif")
    for image in (to_channels(picture, 1), load_image(tmp_path / "deep.tif", 1)):
        assert np.asarray(image).tolist() == [expected]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.float32([[0, 300]]), "from 0 to 300"),
        (np.float32([[-3, 1]]), "from -3 to 1"),
        (np.float32([[0, np.nan]]), "nan"),
        (np.float32([[0, np.inf]]), "inf"),
        (np.int32([[0, 70_000]]), "from 0 to 70000"),
        (np.int32([[-1, 5]]), "from -1 to 5"),
    ],
)
def test_values_of_no_known_range_are_named(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(UserError, match=rf"deep\.tif has .*{words}"):
        load_image(tmp_path / "deep.tif")


def test_files_of_12_and_16_bits_fill_the_range(tmp_path):
    """A PGM of 16 bits is mode I to Pillow, a TIFF of 12 bits I;16 with values below 4096: neither comes out black."""
    (tmp_path / "dark.pgm").write_bytes(b"P5\n3 1\n65535\n" + np.array([0, 128, 255], dtype=">u2").tobytes())
    assert np.asarray(load_image(tmp_path / "dark.pgm", 1)).tolist() == [[0, 0, 0]]
    white = tiff(b"\xff" * 6, {**GREY_TIFF, 257: 1, 258: 12, 278: 1, 279: 6})
    (tmp_path / "white.tif").write_bytes(white)
    assert np.asarray(load_image(tmp_path / "white.tif", 1)).tolist() == [[255] * 4]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({257: 30_000}, "lacks a part of its 4 x 30000 pixels"),
        ({258: 16, 262: 0, 279: 24}, "white as 0"),
        ({322: 2**15, 323: 2**15, 324: 8, 325: 12, 259: 8}, "tiles of more than"),
        ({256: 200_000}, "200000 x 3 pixels"),
    ],
)
def test_a_tiff_that_would_be_misread_is_named(tmp_path, tags, words):
    (tmp_path / "good.tif").write_bytes(tiff(bytes(range(12)), GREY_TIFF))
    assert np.asarray(load_image(tmp_path / "good.tif", 1)).tolist() == np.arange(12).reshape(3, 4).tolist()
    (tmp_path / "bad.tif").write_bytes(tiff(bytes(24), {**GREY_TIFF, **tags}))
    with pytest.raises(UserError, match=rf"bad\.tif .*{words}"):
        load_image(tmp_path / "bad.tif")


def test_the_first_frame_is_read(tmp_path):
    frames = [Image.new("L", (5, 3), level) for level in (40, 90, 200)]
    for name in ("frames.gif", "frames.png", "frames.tif", "frames.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert abs(int(np.asarray(load_image(tmp_path / name, 1)).mean()) - 40) <= 1


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.tif", "turned.webp"])
def test_pictures_are_upright(tmp_path, name):
    picture, exif = picture_with_a_dark_left(), Image.Exif()
    for orientation, dark in ((1, "left"), (3, "right"), (6, "top"), (8, "bottom")):
        exif[0x112] = orientation
        picture.save(tmp_path / name, exif=exif)
        pixels = np.asarray(load_image(tmp_path / name, 1)).astype(int)
        sides = {"left": pixels[:, 0], "right": pixels[:, -1], "top": pixels[0], "bottom": pixels[-1]}
        assert min(sides, key=lambda side: sides[side].mean()) == dark


def picture_with_a_dark_left():
    return Image.fromarray(np.repeat(np.linspace(0, 255, 16, dtype=np.uint8)[None], 8, axis=0))


def test_damaged_exif_turns_what_it_still_says(tmp_path):
    """Another tag that is nonsense does not hide the orientation; what cannot be read at all says nothing."""
    exif = Image.Exif()
    exif[0x112], exif[0x11A] = 6, 1.5
    block = exif.tobytes()
    picture_with_a_dark_left().save(tmp_path / "quirk.jpg", exif=block.replace(b"\x01\x1a\0\x05", b"\x01\x3c\0\x05"))
    assert load_image(tmp_path / "quirk.jpg").size == (8, 16)
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n   4\nno digits")
    picture_with_a_dark_left().save(tmp_path / "quirk.png", pnginfo=text)
    assert load_image(tmp_path / "quirk.png").size == (16, 8)


@pytest.mark.parametrize(
    "error",
    [struct.error("a"), zlib.error("b"), IndexError("c"), KeyError("d"), TypeError("e"), OverflowError("f"),
     AttributeError("g"), MemoryError(), ValueError("two\nlines"), ZeroDivisionError("h"), AssertionError(),
     RecursionError("i"), NotImplementedError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "j")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("place", ["open", "load", "convert"])
def test_whatever_a_decoder_raises_the_file_is_named(tmp_path, monkeypatch, error, place):
    picture("CMYK").save(tmp_path / "odd.jpg")

    def fail(*arguments, **options):
        raise error

    target = {"open": (Image, "open"), "load": (JpegImageFile, "load"), "convert": (Image.Image, "convert")}[place]
    monkeypatch.setattr(*target, fail)
    with pytest.raises(UserError, match=r"odd\.jpg is truncated or damaged: .+") as caught:
        load_image(tmp_path / "odd.jpg")
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    picture("RGB").save(tmp_path / "locked.png")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UserError, match=r"locked\.png cannot be read: Permission denied"):
        load_image(tmp_path / "locked.png")


def test_bits_flipped_at_random_are_read_or_named(tmp_path):
    generator, path = np.random.default_rng(0), tmp_path / "flipped"
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "ICO"):
        picture("RGB", (20, 15)).save(path, kind)
        whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(20):
            flipped = whole.copy()
            flipped[generator.integers(min(len(whole), 300), size=3)] ^= 1 << generator.integers(8, dtype=np.uint8)
            path.write_bytes(flipped[: generator.integers(len(whole) // 2, len(whole) + 1)].tobytes())
            try:
                said = load_image(path).mode
            except UserError as error:
                said = str(error)
            assert said == "RGB" or (str(path) in said and "\n" not in said)


def test_warnings_of_pillow_stay_within(tmp_path):
    """In many threads at once, and the filters are afterwards what they were."""
    picture_with_a_dark_left().save(tmp_path / "quirk.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            assert all(image.size == (16, 8) for image in pool.map(load_image, [tmp_path / "quirk.jpg"] * 200))
        assert warnings.filters == filters


def test_hidden_files_are_left_out(tmp_path):
    for name in ("a.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/a.png", "b/.c/d.png", "b/e.png"):
        (tmp_path / ".hidden" / name).parent.mkdir(parents=True, exist_ok=True)
        picture("RGB").save(tmp_path / ".hidden" / name)
    (tmp_path / ".hidden" / "folder.png").mkdir()
    assert [path.name for path in find_images([tmp_path / ".hidden"])] == ["a.png", "e.png"]
    assert find_images([tmp_path / ".hidden" / "._a.png"]) == [tmp_path / ".hidden" / "._a.png"]  # named, so meant


def test_links_are_followed_once(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    picture("RGB").save(tmp_path / "outside" / "a.png")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "inside")
    (tmp_path / "inside" / "gone.png").symlink_to(tmp_path / "nothing.png")
    found = find_images([tmp_path / "inside"])
    assert [path.name for path in found] == ["gone.png", "a.png"]
    with pytest.raises(UserError, match=r"no image file at .*gone\.png"):
        load_image(found[0])
