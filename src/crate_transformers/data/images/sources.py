"""Where labelled images come from: `digits`, `imagefolder:PATH`, `shards:PATH`, `torchvision:NAME`, `hub:NAME`.

Every source gives the same thing, ImageSplits: train, validation and test images with labels, and the class names.
Validation is carved from the training images where the source has none of its own; so is the test part.
"""

import difflib
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ...errors import UserError
from ...files import user_path
from ..parts import UNDERSTOOD, parts_among
from .damage import named_damage, one_line
from .decoding import decode_image, load_image
from .folders import load_image_folder
from .imagenet import HELD_OUT_SOURCES, is_held_out_source
from .labelled import (
    ImageSplits,
    LabelledImages,
    SplitOptions,
    assemble,
    checked_labels,
    count_by_class,
    labelled,
)
from .modes import to_channels
from .shards import load_shards

if TYPE_CHECKING:
    from datasets import Dataset
    from torchvision.datasets import VisionDataset


def load_image_source(
    source: str,
    root: str | Path | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    skip_unreadable: bool = False,
    manifest_dir: str | Path | None = None,
) -> ImageSplits:
    """Open a source of labelled images.

    Args:
        source: "digits"; "imagefolder:PATH" (PATH/train/CLASS/* with val or test beside it, by these names or others
            that are in use, such as Training and Testing; or PATH/CLASS/*); "shards:PATH" (tar or Parquet files, as
            `crate shard`, webdataset and the hub write them); "torchvision:NAME", e.g.
            torchvision:CIFAR10; "hub:NAME", a data set of the Hugging Face hub or a local folder in its layout.
        root: where torchvision keeps its files; downloads go there. Default: the user's cache folder.
        validation_fraction: of the training images, in [0, 1), where the source has no validation part.
        test_fraction: of all images, in [0, 1), where the source has no test part.
        seed: of the split.
        skip_unreadable: leave unreadable files out (they are listed in `left_out`) instead of refusing.
        manifest_dir: where what was found in a large folder is kept, for the next start. Default: the user's cache.

    Raises:
        UserError: an unknown source, no images, fewer than two classes, folders that may be parts or classes, labels
            that are missing or out of range, or unreadable files; named.
    """
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise UserError(f"data.{name} must be in [0, 1), got {fraction}")
    kind, _, argument = source.partition(":")
    if is_held_out_source(source):
        raise UserError(f"{kind} is for `crate evaluate` alone: it has no training images")
    if kind not in _SOURCES:
        near = difflib.get_close_matches(kind, [*_SOURCES, *HELD_OUT_SOURCES], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown data source {source!r}: expected one of {', '.join(_SOURCES.values())}{hint}")
    if kind == "digits" and argument:
        raise UserError(f"digits takes no argument, got {source!r}")
    if kind != "digits" and not argument:
        raise UserError(f"--data {kind} needs a name: {_SOURCES[kind]}")
    options = SplitOptions(root, validation_fraction, test_fraction, seed, skip_unreadable, manifest_dir)
    openers = {
        "digits": _digits,
        "imagefolder": load_image_folder,
        "shards": load_shards,
        "torchvision": _torchvision,
        "hub": _hub,
    }
    splits = openers[kind](argument, options)
    if len(splits.classes) < 2:
        raise UserError(f"{source} has one class ({', '.join(splits.classes)}): a classifier needs two or more")
    return splits


_SOURCES = {
    "digits": "digits",
    "imagefolder": "imagefolder:PATH",
    "shards": "shards:PATH",
    "torchvision": "torchvision:NAME",
    "hub": "hub:NAME",
}


def _digits(argument: str, options: SplitOptions) -> ImageSplits:
    from sklearn.datasets import load_digits  # heavy, and of no use to the other sources

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    images = labelled(lambda i: Image.fromarray(pixels[i]), digits.target.astype(np.int64), "digits")
    return assemble("digits", [str(digit) for digit in range(10)], {"train": images}, options)


_TORCHVISION_SPLITS = {  # {part: what `split=` says}, where it is not train and test
    "Country211": {"train": "train", "validation": "valid", "test": "test"},
    "ImageNet": {"train": "train", "validation": "val"},
    "Imagenette": {"train": "train", "validation": "val"},
    "OxfordIIITPet": {"train": "trainval", "test": "test"},
} | {
    name: {"train": "train", "validation": "val", "test": "test"}
    for name in ("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2")
}


def _torchvision(argument: str, options: SplitOptions) -> ImageSplits:
    from torchvision import datasets  # heavy

    available = [name for name in datasets.__all__ if isinstance(getattr(datasets, name, None), type)]
    if argument not in available:
        near = difflib.get_close_matches(argument, available, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"torchvision has no data set {argument!r}{hint}")
    place = f"torchvision:{argument}"
    root = user_path(options.root or "~/.cache/crate_transformers/data")
    opened = _open_torchvision(getattr(datasets, argument), argument, root)
    labels = {part: _torchvision_labels(data, f"{place} {part}") for part, data in opened.items()}
    classes = _torchvision_classes(opened["train"], labels["train"], place)
    parts, notes = _labelled_parts(labels, classes, place)
    images = {part: _from_torchvision(opened[part], own, f"{place} {part}") for part, own in parts.items()}
    return assemble(place, classes, images, options, notes=notes)


def _from_torchvision(data: "VisionDataset", labels: np.ndarray, place: str) -> LabelledImages:
    return labelled(lambda i: data[i][0], labels, place)


def _open_torchvision(dataset: "type[VisionDataset]", name: str, root: Path) -> dict[str, "VisionDataset"]:
    """{part: torchvision's data set}; some say `train=`, others `split=`."""
    import inspect

    parameters = inspect.signature(dataset.__init__).parameters
    if "train" in parameters:
        return {part: _torchvision_part(dataset, name, root, train=part == "train") for part in ("train", "test")}
    if "split" in parameters:
        splits = _TORCHVISION_SPLITS.get(name, {"train": "train", "test": "test"})
        return {part: _torchvision_part(dataset, name, root, split=split) for part, split in splits.items()}
    raise UserError(f"torchvision:{name} has no training and test part: save it as folders, use imagefolder:PATH")


def _torchvision_part(dataset: "type[VisionDataset]", name: str, root: Path, **which: bool | str) -> "VisionDataset":
    """A part of a data set of torchvision, downloaded where it is not there. which: `train=` or `split=`."""
    try:
        return dataset(root=str(root), **which)
    except RuntimeError:
        pass  # not there yet
    except Exception as error:  # its files, of any format, may be damaged in any way
        raise UserError(f"torchvision:{name} in {root} cannot be read: {one_line(error)}") from error
    try:
        return dataset(root=str(root), download=True, **which)
    except Exception as error:
        raise UserError(
            f"torchvision:{name} is not in {root} and could not be downloaded ({one_line(error)}); pass --set "
            "data.root=FOLDER"
        ) from error


def _torchvision_labels(data: "VisionDataset", place: str) -> Iterable[object]:
    """A label for each picture, as the data set gives them."""
    for attribute in ("targets", "_labels", "labels"):
        labels = getattr(data, attribute, None)
        if labels is not None:
            return labels
    for attribute in ("_samples", "samples"):  # pairs of a file and its label: no picture need be decoded
        pairs = getattr(data, attribute, None)
        if isinstance(pairs, list) and len(pairs) == len(data) and all(isinstance(pair, tuple) for pair in pairs):
            return [pair[1] for pair in pairs]
    labels = []
    for i in range(len(data)):
        with named_damage(f"{place}[{i}]"):
            labels.append(data[i][1])
    return labels


def _torchvision_classes(data: "VisionDataset", labels: Iterable[object], place: str) -> list[str]:
    if getattr(data, "classes", None):
        return [str(name) for name in data.classes]
    known = checked_labels(labels, np.iinfo(np.int64).max, place)
    return [str(label) for label in range(0 if known is None else int(known.max(initial=-1)) + 1)]


def _labelled_parts(
    labels: Mapping[str, Iterable[object]], classes: list[str], place: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """({part: its labels}, notes): a validation or test part without any label, as many publish one, is left out."""
    parts: dict[str, np.ndarray] = {}
    notes: list[str] = []
    for part, given in labels.items():
        own = checked_labels(given, len(classes), f"the {part} part of {place}")
        if own is not None:
            parts[part] = own
        elif part == "train":
            raise UserError(f"the train part of {place} has no labels (all are -1): there is nothing to learn from")
        else:
            notes.append(f"the {part} part of {place} has no labels (all are -1) and is not used")
    return parts, tuple(notes)


def _hub(argument: str, options: SplitOptions) -> ImageSplits:
    from datasets import ClassLabel, load_dataset  # heavy
    from datasets import Image as ImageFeature

    place = f"hub:{argument}"
    try:
        tables = load_dataset(argument)
    except Exception as error:
        raise UserError(f"the data set {argument} could not be loaded: {one_line(error)}") from error
    names, others = parts_among(tables, place)
    if "train" not in names:
        raise UserError(f"{place} has no split named train, has {', '.join(tables)}; {UNDERSTOOD}")
    features = tables[names["train"]].features
    image = next((name for name, feature in features.items() if isinstance(feature, ImageFeature)), None)
    label = next((name for name, feature in features.items() if isinstance(feature, ClassLabel)), None)
    if image is None or label is None:
        raise UserError(f"{place} needs an image column and a class-label column, has {list(features)}")
    classes = list(features[label].names)
    labels = {part: list(tables[name][label]) for part, name in names.items()}
    parts, notes = _labelled_parts(labels, classes, place)
    images = {part: _from_hub(tables[names[part]], image, own, f"{place} {part}") for part, own in parts.items()}
    notes += tuple(f"the split {name} of {place} is not used" for name in others)
    return assemble(place, classes, images, options, notes=notes)


def _from_hub(table: "Dataset", column: str, labels: np.ndarray, place: str) -> LabelledImages:
    """Pictures of a column. They are decoded here, so that the limits and messages are those of image files."""
    from datasets import Image as ImageFeature  # heavy

    encoded = table.select_columns([column]).cast_column(column, ImageFeature(decode=False))

    def read(index: int, num_channels: int) -> Image.Image:
        """Picture `index`, in "L" or "RGB"."""
        name, value = f"{place}[{index}]", encoded[index][column]
        if value is None:
            raise UserError(f"{name} has no picture")
        if value["bytes"] is not None:
            return decode_image(BytesIO(value["bytes"]), name, num_channels)
        if Path(value["path"]).is_file():
            return load_image(value["path"], num_channels)
        with named_damage(name):  # in an archive, or elsewhere on the net
            return to_channels(ImageFeature().decode_example(value), num_channels, name)

    def content(index: int) -> bytes:
        """The bytes of picture `index`."""
        value = encoded[index][column]
        if value is None or (value["bytes"] is None and not Path(value["path"]).is_file()):
            raise UserError(f"{place}[{index}] has no picture whose bytes are at hand")
        return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()

    return LabelledImages(read, labels, lambda index: f"{place}[{index}]", encoded=content)


__all__ = ["ImageSplits", "LabelledImages", "count_by_class", "load_image_source"]
