"""Every kind of picture is read; every kind of damage is named."""

import numpy as np
import pytest
from PIL import Image

from crate_transformers.data import find_images, load_image
from crate_transformers.data import images as images_module


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
