"""Sources of labelled images: splits that do not overlap, and errors that name what is wrong."""

import io
import struct

import datasets
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from crate_transformers.data import load_image_source
from crate_transformers.data.images import decoding as images_module
from crate_transformers.data.images.labelled import checked_labels
from crate_transformers.errors import UserError


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
        ("imagenetv2:x", "did you mean imagenet-v2"),
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


@pytest.mark.parametrize(
    "names",
    [
        ("Training", "Testing"), ("Train", "Test"), ("TRAIN", "TEST"), ("training_set", "test_set"),
        ("train", "testing"), ("Train Set", "Test-Data"), ("training_data", "test_images"),
    ],
)  # fmt: skip
def test_names_of_two_parts(tmp_path, names):
    splits = load_image_source(make_folder(tmp_path, parts=names), validation_fraction=0.2)
    assert splits.classes == ["ant", "bee"]
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 4, 20)
    assert all(names[1] in splits.test.name(i) for i in range(20))


@pytest.mark.parametrize("name", ["dev", "Val", "valid", "validation_set", "DEVELOPMENT"])
def test_names_of_the_validation_part(tmp_path, name):
    splits = load_image_source(make_folder(tmp_path, parts=("train", name, "test"), count=5))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (10, 10, 10)
    assert all(name in splits.validation.name(i) for i in range(10))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("train", "Training"), "Training and train, which both mean its train part"),
        (("train", "val", "dev"), "dev and val, which both mean its validation part"),
        (("train", "holdout"), "holdout beside train; the names of parts are train/training"),
        (("train", "test", "extra"), "extra beside test, train"),
        (("valid", "invalid"), "invalid beside valid.*if they are classes, move all classes into"),
        (("Test", "val"), "no part to train on"),
        (("train2017", "val2017"), "train2017, val2017, which seem to be parts"),
        (("seg_train", "seg_test", "other"), "seg_test, seg_train, which seem to be parts"),
    ],
)
def test_folders_that_may_be_parts_or_classes_are_named(tmp_path, parts, words):
    with pytest.raises(UserError, match=words):
        load_image_source(make_folder(tmp_path, parts=parts))


def test_parts_within_classes_are_named(tmp_path):
    make_folder(tmp_path / "ant", classes=("train", "test"))
    make_folder(tmp_path / "bee", classes=("train", "test"))
    with pytest.raises(UserError, match=r"ant holds the parts test, train: expected PATH/PART/CLASS/IMAGE"):
        load_image_source(f"imagefolder:{tmp_path}")


def test_classes_may_have_any_name(tmp_path):
    """In a part, and beside each other where no name is a part's."""
    source = make_folder(tmp_path / "parts", classes=("train", "valid"), parts=("train",))
    assert load_image_source(source).classes == ["train", "valid"]
    source = make_folder(tmp_path / "plain", classes=("bullet_train", "test_tube", "Trainer", "devil", "contest"))
    assert len(load_image_source(source).classes) == 5


def test_hidden_files_and_litter_are_left_out(tmp_path):
    source = make_folder(tmp_path / ".data")
    some = (tmp_path / ".data" / "ant" / "0.png").read_bytes()
    for name in ("ant/.ipynb_checkpoints/3-checkpoint.png", "ant/._0.png", ".cache/a.png", "__MACOSX/ant/a.png",
                 "bee/@eaDir/0.png/thumb.png"):  # fmt: skip
        (tmp_path / ".data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".data" / name).write_bytes(some)
    (tmp_path / ".data" / "ant" / "folder.png").mkdir()
    splits = load_image_source(source)
    assert splits.classes == ["ant", "bee"]
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 20


def test_images_beside_the_class_folders_are_named(tmp_path):
    source = make_folder(tmp_path)
    (tmp_path / "0.png").write_bytes((tmp_path / "ant" / "0.png").read_bytes())
    with pytest.raises(UserError, match=r"1 images beside its class folders: 0\.png"):
        load_image_source(source)


def test_pictures_of_a_kind_that_is_not_read_are_named(tmp_path):
    source = make_folder(tmp_path)
    (tmp_path / "ant" / "one.HEIC").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 21 images .*one\.HEIC is a \.HEIC picture, which is not read"):
        load_image_source(source)
    assert load_image_source(source, skip_unreadable=True).left_out == (str(tmp_path / "ant" / "one.HEIC"),)


def test_damage_that_decoders_do_not_know_is_named(tmp_path, monkeypatch):
    source, load = make_folder(tmp_path), PngImageFile.load

    def fail(image):
        if image.info.get("kind") == "odd":
            raise KeyError("no such chunk")
        return load(image)

    odd = PngInfo()
    odd.add_text("kind", "odd")
    Image.new("RGB", (3, 2)).save(tmp_path / "ant" / "odd.png", pnginfo=odd)
    monkeypatch.setattr(PngImageFile, "load", fail)
    with pytest.raises(UserError, match=r"1 of 21 images .*odd\.png is truncated or damaged: 'no such chunk'"):
        load_image_source(source)


def hub(monkeypatch, labels, pictures=None):
    """Make hub:some a data set with these labels, a list for each split."""
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee"])})
    some = io.BytesIO()
    Image.new("RGB", (13, 9), (90, 90, 90)).save(some, "PNG")

    def table(own):
        images = pictures or [{"bytes": some.getvalue(), "path": None}] * len(own)
        return datasets.Dataset.from_dict({"picture": images, "kind": own}, features=features)

    tables = datasets.DatasetDict({split: table(own) for split, own in labels.items()})
    monkeypatch.setattr(datasets, "load_dataset", lambda name: tables)


HALF = [0, 1] * 10


@pytest.mark.parametrize("names", [("train", "dev", "test"), ("Training", "validation", "testing")])
def test_hub_parts(monkeypatch, names):
    hub(monkeypatch, dict(zip(names, (HALF, HALF[:8], HALF[:6]), strict=True)))
    splits = load_image_source("hub:some")
    assert splits.classes == ["ant", "bee"]
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 8, 6)
    assert splits.train.read(3, 3).size == (13, 9)
    assert splits.train.read(3, 1).mode == "L"
    assert splits.train.name(3) == "hub:some train[3]"
    assert splits.notes == ()


@pytest.mark.parametrize("missing", [-1, None])
def test_a_hub_part_without_labels_is_absent(monkeypatch, missing):
    hub(monkeypatch, {"train": HALF, "validation": HALF[:8], "test": [missing] * 6})
    splits = load_image_source("hub:some", validation_fraction=0.2)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 4, 8)
    assert splits.notes == ("the test part of hub:some has no labels (all are -1) and is not used",)


def test_a_hub_split_that_is_no_part_is_told(monkeypatch):
    hub(monkeypatch, {"train": HALF, "extra": HALF, "test": HALF})
    assert load_image_source("hub:some").notes == ("the split extra of hub:some is not used",)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"train": HALF, "test": [0, -1, 1]}, "the test part of hub:some has 1 pictures without a label"),
        ({"train": [0, None, 1], "test": HALF}, "the train part of hub:some has 1 pictures without a label"),
        ({"train": [-1] * 9, "test": HALF}, "the train part of hub:some has no labels"),
        ({"full": HALF}, "hub:some has no split named train, has full; the names of parts are"),
        ({"train": HALF, "val": HALF, "valid": HALF}, "hub:some has val and valid, which both mean its validation"),
    ],
)
def test_hub_labels_and_splits_that_cannot_be_used(monkeypatch, labels, words):
    hub(monkeypatch, labels)
    with pytest.raises(UserError, match=words):
        load_image_source("hub:some")


def test_labels_out_of_range_are_named():
    for labels in ([0, 1, 2], [0, -2], np.array([[0, 1]]), [[0], [0, 1]], ["ant"], [0.5]):
        with pytest.raises(UserError, match="labels"):
            checked_labels(labels, 2, "the train part")
    assert checked_labels(torch.tensor([0, 1]), 2, "the train part").tolist() == [0, 1]
    assert checked_labels([], 2, "the train part").tolist() == []


def test_hub_pictures_are_named_and_bounded(monkeypatch, tmp_path):
    Image.new("RGBA", (3, 2)).save(tmp_path / "clear.png")
    clear = (tmp_path / "clear.png").read_bytes()
    hub(
        monkeypatch,
        {"train": [0, 1, 0, 1, 0]},
        [
            {"bytes": clear, "path": None},
            {"bytes": None, "path": str(tmp_path / "clear.png")},
            {"bytes": clear[:40], "path": None},
            None,
            {"bytes": None, "path": str(tmp_path / "gone.png")},
        ],
    )
    train = load_image_source("hub:some", validation_fraction=0, test_fraction=0).train
    for i in (0, 1):
        assert np.asarray(train.read(i, 3)).min() == 255
    for i, words in ((2, "damaged"), (3, "has no picture"), (4, "cannot be read: No such file")):
        with pytest.raises(UserError, match=rf"hub:some train\[{i}\].*{words}"):
            train.read(i, 3)
    monkeypatch.setattr(images_module, "MAX_PIXELS", 5)
    with pytest.raises(UserError, match=r"hub:some train\[0\] is 3 x 2 pixels"):
        train.read(0, 3)


class Tiny:
    """A data set in torchvision's manner."""

    def __init__(self, root, train=True, download=False):
        self.train = train
        self.targets = torch.tensor(HALF)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        if i == 4:
            raise struct.error("unpack requires\na buffer")
        return (torch.zeros(3) if i == 5 else Image.new("I;16", (13, 9), 40_000)), int(self.targets[i])


def test_torchvision_pictures_are_named(monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Tiny)
    splits = load_image_source("torchvision:CIFAR10", validation_fraction=0)
    assert splits.classes == ["0", "1"]
    assert np.asarray(splits.train.read(0, 3)).tolist() == np.full((9, 13, 3), 40_000 // 256).tolist()
    with pytest.raises(
        UserError, match=r"torchvision:CIFAR10 train\[4\] is truncated or damaged: unpack requires a buf"
    ):
        splits.train.read(4, 3)
    with pytest.raises(UserError, match=r"torchvision:CIFAR10 test\[5\] is a Tensor, not a picture"):
        splits.test.read(5, 3)


def test_torchvision_labels_and_files_that_cannot_be_used(monkeypatch):
    class Damaged(Tiny):
        def __init__(self, root, train=True, download=False):
            raise EOFError("Ran out\nof input")

    class Unlabelled(Tiny):
        def __init__(self, root, train=True, download=False):
            super().__init__(root)
            self.targets = HALF if train else [-1] * 20

    class Several(Tiny):
        def __init__(self, root, train=True, download=False):
            self.targets = [[0, 1]] * 20

    for kind, words in (
        (Damaged, r"torchvision:CIFAR10 in .* cannot be read: Ran out of input"),
        (Several, "the labels of torchvision:CIFAR10 are not one integer a picture"),
    ):
        monkeypatch.setattr(torchvision.datasets, "CIFAR10", kind)
        with pytest.raises(UserError, match=words):
            load_image_source("torchvision:CIFAR10")
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Unlabelled)
    splits = load_image_source("torchvision:CIFAR10", validation_fraction=0.2, test_fraction=0.2)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 4, 4)
    assert len(splits.notes) == 1


def test_torchvision_validation_parts_are_used(monkeypatch):
    class Split(Tiny):
        def __init__(self, root, split="train", download=False):
            self.targets = HALF[: {"train": 20, "val": 8, "test": 6}[split]]

    for name, sizes in (("DTD", (20, 8, 6)), ("ImageNet", (16, 4, 8))):
        monkeypatch.setattr(torchvision.datasets, name, Split)
        splits = load_image_source(f"torchvision:{name}", validation_fraction=0.2)
        assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes
