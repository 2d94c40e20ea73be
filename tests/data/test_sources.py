"""Sources of labelled images: splits that do not overlap, and errors that name what is wrong."""

import numpy as np
import pytest
from PIL import Image

from crate_transformers.data import load_image_source


def make_folder(root, classes=("ant", "bee"), parts=("",), count=10):
    rng = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return f"imagefolder:{root}"


def test_digits_are_split_without_overlap():
    splits = load_image_source("digits", seed=3)
    names = [{part.name(i) for i in range(len(part))} for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, names)) == 1797
    assert len(set.union(*names)) == 1797
    assert set(splits.test.labels) == set(range(10))
    again = load_image_source("digits", seed=3)
    assert (again.test.labels == splits.test.labels).all()


def test_plain_folder(tmp_path):
    splits = load_image_source(make_folder(tmp_path), validation_fraction=0.25, test_fraction=0.2)
    assert splits.classes == ["ant", "bee"]
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 4, 4)
    assert splits.train.read(0, 3).size == (13, 9)


def test_named_parts(tmp_path):
    source = make_folder(tmp_path, parts=("train", "validation", "test"), count=5)
    splits = load_image_source(source)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (10, 10, 10)


def test_val_alone_is_the_test_part(tmp_path):
    """The ImageNet layout: its val is what is reported, so validation is carved from the training images."""
    splits = load_image_source(make_folder(tmp_path, parts=("train", "val")), validation_fraction=0.2)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 4, 20)


def test_unreadable_files(tmp_path):
    source = make_folder(tmp_path)
    (tmp_path / "ant" / "bad.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 21 images .*bad\.png"):
        load_image_source(source)
    splits = load_image_source(source, skip_unreadable=True)
    assert splits.left_out == (str(tmp_path / "ant" / "bad.png"),)
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 20


def test_a_class_without_images_is_named(tmp_path):
    source = make_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "one.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"classes without an image: cat \(it has one.heic\)"):
        load_image_source(source)


def test_bad_sources(tmp_path):
    (tmp_path / "empty").mkdir()
    make_folder(tmp_path / "one", classes=("ant",))
    (tmp_path / "bare" / "ant").mkdir(parents=True)
    for source, words in (
        ("digit", "did you mean digits"),
        ("digits:x", "takes no argument"),
        ("imagefolder:", "needs a name"),
        (f"imagefolder:{tmp_path}/none", "no folder"),
        (f"imagefolder:{tmp_path}/empty", "no class folders"),
        (f"imagefolder:{tmp_path}/bare", "holds no image"),
        (f"imagefolder:{tmp_path}/one", "one class"),
        ("torchvision:CIFAR11", "did you mean CIFAR10"),
    ):
        with pytest.raises(ValueError, match=words):
            load_image_source(source)
