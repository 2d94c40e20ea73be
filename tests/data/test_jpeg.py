"""JPEG files by simplejpeg: the pixels that Pillow gives, or Pillow itself."""

import struct
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.transforms.v2.functional import pil_to_tensor

from crate_transformers import CrateVisionConfig
from crate_transformers.data import KeyedImages, TrainingTransform, load_image_source
from crate_transformers.data.images.decoding import decode_image
from crate_transformers.data.images.jpeg import jpeg_pixels
from crate_transformers.errors import UserError
from crate_transformers.models.image_processing import image_processor_of

pytest.importorskip("simplejpeg")  # an extra
PHOTOGRAPH = load_sample_image("china.jpg")
PICTURES = {"colour": PHOTOGRAPH[:301, :403], "small": PHOTOGRAPH[:7, :5], "grey": PHOTOGRAPH[:111, :97, 1]}


def encoded(name, **options):
    file = BytesIO()
    Image.fromarray(PICTURES[name]).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize(
    "options",
    [{"quality": 95}, {"quality": 30, "subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"progressive": True}],
    ids=str,
)
def test_pixels_are_pillows(name, options):
    if name == "grey":
        options = {key: value for key, value in options.items() if key != "subsampling"}
    content = encoded(name, **options)
    assert torch.equal(jpeg_pixels(content), pil_to_tensor(decode_image(BytesIO(content), name, 3)))


def test_what_may_be_read_otherwise_is_left_to_pillow():
    exif = Image.Exif()
    exif[0x112] = 6  # turned
    content = encoded("colour")
    cmyk = BytesIO()
    Image.fromarray(PICTURES["colour"]).convert("CMYK").save(cmyk, "JPEG")
    png = BytesIO()
    Image.fromarray(PICTURES["colour"]).save(png, "PNG")
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    for left in (encoded("colour", exif=exif), encoded("colour", xmp=xmp), cmyk.getvalue(), png.getvalue()):
        assert jpeg_pixels(left) is None
    for damaged in (b"", content[:2], content[:300], content[: len(content) // 2]):
        assert jpeg_pixels(damaged) is None
    assert jpeg_pixels(content) is not None


@pytest.mark.parametrize("error", [struct.error("a"), KeyError("b"), OverflowError("c"), MemoryError()], ids=repr)
def test_whatever_a_reader_raises_is_left_to_pillow(monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    content = encoded("colour")
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fail)
        assert jpeg_pixels(content) is None
    monkeypatch.setattr("crate_transformers.data.images.jpeg._reader", lambda: fail)
    assert jpeg_pixels(content) is None


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for label, number in np.ndindex(2, 3):
        place = tmp_path / f"class{label}"
        place.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        suffix = ("jpg", "png")[number % 2]
        Image.fromarray(pixels).resize((60, 45)).save(place / f"{number}.{suffix}")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 3])
def test_training_sees_what_it_saw(folder, channels):
    images = load_image_source(f"imagefolder:{folder}", None, 0.0, 0.0).train
    config = CrateVisionConfig(image_size=24, patch_size=8, num_channels=channels)
    transform = TrainingTransform(image_processor_of(config, False), "random_resized", flip=True, color_jitter=0.4)
    ours = KeyedImages(images, transform, channels, seed=3)
    plain = KeyedImages(images, lambda picture: transform(picture), channels, seed=3)  # is given pictures
    for index in range(len(images)):
        assert torch.equal(ours[(1, index)]["pixel_values"], plain[(1, index)]["pixel_values"])


def test_a_file_that_was_damaged_since_is_named(folder):
    images = load_image_source(f"imagefolder:{folder}", None, 0.0, 0.0).train
    path = folder / "class0" / "0.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"0\.jpg"):
        images.pixels(0, 3)
    path.unlink()
    with pytest.raises(UserError, match=r"0\.jpg"):
        images.pixels(0, 3)
