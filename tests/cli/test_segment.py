"""`crate segment`, on a model trained in this session."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three digits as pictures of 40 x 24 pixels, and their outlines."""
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("pictures")
    for name in ("images", "masks"):
        (root / name).mkdir()
    digits = load_digits()
    for i in range(3):
        image = Image.fromarray(np.uint8(digits.images[i] * 15)).resize((24, 40), Image.Resampling.NEAREST)
        image.save(root / "images" / f"digit{i}.png")
        Image.fromarray(np.uint8(np.asarray(image) > 100) * np.uint8(1 + i)).save(root / "masks" / f"digit{i}.png")
    return root


def test_masks_overlays_and_scores(crate, digits_model, pictures, tmp_path):
    pytest.importorskip("pycocotools")
    out = tmp_path / "out"
    said = crate(
        "segment", digits_model, pictures / "images", "--layer", 0, "--figures", 1, "--output", out, "--evaluate",
        pictures / "masks",
    )  # fmt: skip
    names = {path.name for path in out.iterdir()}
    kinds = ("maskcut.png", "overlay.png", "masks.npz")
    assert names >= {f"digit{i}_{kind}" for i in range(3) for kind in kinds} | {
        "scores.json",
        "digit0_heads.svg",
        "legend.png",
        "legend.svg",
    }
    assert "digit1_heads.png" not in names
    labels = Image.open(out / "digit2_maskcut.png")
    assert labels.mode == "P"
    assert np.asarray(labels).shape == (40, 24)
    colors, overlay = np.asarray(labels.convert("RGB")), np.asarray(Image.open(out / "digit2_overlay.png"))
    first = np.asarray(labels) == 1
    assert first.any()
    assert (colors[first] == (0, 114, 178)).all()  # the first colour, in the map and as the line of the overlay
    assert (overlay[first] == (0, 114, 178)).all(axis=-1).any()
    assert (colors[np.asarray(labels) == 0] == 0).all()
    with np.load(out / "digit2_masks.npz") as arrays:
        assert arrays["by_mass"].shape == arrays["by_entries"].shape == (4, 40, 24)
        assert arrays["attention"].shape == (4, 4, 4)
        assert arrays["by_entries"].mean() == pytest.approx(10 / 16)
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores) == {"attention_mass", "attention_entries", "maskcut"}
    assert set(scores["attention_mass"]["classes"]) == {"1", "2", "3"}
    assert set(scores["maskcut"]["box"]) == {"AP", "AP50", "AP75"}
    assert 0 <= scores["attention_mass"]["mean_iou"] <= 1
    assert "mean IoU" in said
    assert str(out) in said.splitlines()[-1]


def test_another_resolution_keeps_the_shape(crate, digits_model, pictures, tmp_path):
    crate("segment", digits_model, pictures / "images" / "digit0.png", "--side", 12, "--output", tmp_path)
    with np.load(tmp_path / "digit0_masks.npz") as arrays:
        assert arrays["attention"].shape == (4, 10, 6)


def test_bad_input_is_named(crate, digits_model, text_model_folder, pictures, tmp_path):
    image, out = pictures / "images" / "digit0.png", ("--output", tmp_path / "out")
    small = tmp_path / "small"
    small.mkdir()
    Image.new("L", (24, 39)).save(small / "digit0.png")
    colour = tmp_path / "colour"
    colour.mkdir()
    Image.new("RGB", (24, 40)).save(colour / "digit0.png")
    for arguments, message in (
        ((digits_model, image, *out, "--layer", 9), "no layer 9"),
        ((digits_model, image, *out, "--evaluate", small), "one size"),
        ((digits_model, image, *out, "--evaluate", colour), "label map"),
        ((digits_model, image, *out, "--evaluate", tmp_path), "no label map"),
        ((digits_model, image, *out, "--evaluate", image), "not a folder"),
        ((digits_model, image, small / "digit0.png", *out, "--evaluate", small), "have the same"),
        ((digits_model, image, *out, "--side", 1), "smaller than a patch"),
        ((digits_model, image, *out, "--fraction", 0), "fraction"),
        ((digits_model, image, *out, "--masks", 0), "num_masks"),
        ((digits_model, tmp_path / "none.png", *out), "none.png"),
        ((digits_model, image, "--output", image), "is a file"),
        ((text_model_folder, image, *out), "not images"),
    ):
        with pytest.raises(ValueError, match=message):
            crate("segment", *arguments)
