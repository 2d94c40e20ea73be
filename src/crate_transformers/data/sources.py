"""Where labelled images come from: `digits`, `imagefolder:PATH`, `torchvision:NAME`, `hub:NAME`.

Every source gives the same thing, ImageSplits: train, validation and test images with labels, and the class names.
Validation is carved from the training images; the test images are the source's own where it has some.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from .images import IMAGE_SUFFIXES, load_image, to_channels

_VALIDATION_NAMES = ("val", "validation", "valid")


@dataclass(frozen=True)
class LabelledImages:
    """Pictures that are read when asked for, and their labels.

    read(i, num_channels) -> a picture; labels (n,) int64; name(i) -> what to call picture i in a message.
    """

    read: Callable[[int, int], Image.Image]
    labels: np.ndarray
    name: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "LabelledImages":
        """The pictures at these places, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return LabelledImages(
            read=lambda i, channels: self.read(int(chosen[i]), channels),
            labels=self.labels[chosen],
            name=lambda i: self.name(int(chosen[i])),
        )


@dataclass(frozen=True)
class ImageSplits:
    """The three parts of a source, its class names, and the files that were left out as unreadable."""

    name: str
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: list[str]
    left_out: tuple[str, ...] = ()


def load_image_source(
    source: str,
    root: str | Path | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    skip_unreadable: bool = False,
) -> ImageSplits:
    """Open a source of labelled images.

    Args:
        source: "digits"; "imagefolder:PATH" (PATH/train/CLASS/* with val, validation or test beside it, or
            PATH/CLASS/*); "torchvision:NAME", e.g. torchvision:CIFAR10; "hub:NAME", a data set of the Hugging Face hub
            or a local folder in its layout.
        root: where torchvision keeps its files; downloads go there. Default: the user's cache folder.
        validation_fraction: of the training images, in [0, 1), where the source has no validation part.
        test_fraction: of all images, in [0, 1), where the source has no test part.
        seed: of the split.
        skip_unreadable: leave unreadable files out (they are listed in `left_out`) instead of refusing.

    Raises:
        ValueError: an unknown source, no images, fewer than two classes, or unreadable files; named.
    """
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise UserError(f"data.{name} must be in [0, 1), got {fraction}")
    kind, _, argument = source.partition(":")
    if kind not in _SOURCES:
        near = difflib.get_close_matches(kind, _SOURCES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown data source {source!r}: expected one of {', '.join(_SOURCES.values())}{hint}")
    if kind == "digits" and argument:
        raise UserError(f"digits takes no argument, got {source!r}")
    if kind != "digits" and not argument:
        raise UserError(f"--data {kind} needs a name: {_SOURCES[kind]}")
    options = _Options(root, validation_fraction, test_fraction, seed, skip_unreadable)
    splits = {"digits": _digits, "imagefolder": _imagefolder, "torchvision": _torchvision, "hub": _hub}[kind](
        argument, options
    )
    if len(splits.classes) < 2:
        raise UserError(f"{source} has one class ({', '.join(splits.classes)}): a classifier needs two or more")
    return splits


_SOURCES = {
    "digits": "digits",
    "imagefolder": "imagefolder:PATH",
    "torchvision": "torchvision:NAME",
    "hub": "hub:NAME",
}


@dataclass(frozen=True)
class _Options:
    root: str | Path | None
    validation_fraction: float
    test_fraction: float
    seed: int
    skip_unreadable: bool


def _split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, taken): a share of every class, drawn with the seed."""
    generator = np.random.default_rng(seed)
    taken: list[int] = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        taken.extend(members[: round(fraction * len(members))])
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[taken] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _assemble(
    name: str,
    classes: list[str],
    train: LabelledImages,
    options: _Options,
    validation: LabelledImages | None = None,
    test: LabelledImages | None = None,
) -> ImageSplits:
    if test is None:
        kept, taken = _split(train.labels, options.test_fraction, options.seed)
        train, test = train.subset(kept), train.subset(taken)
    if validation is None:
        kept, taken = _split(train.labels, options.validation_fraction, options.seed + 1)
        train, validation = train.subset(kept), train.subset(taken)
    if not len(train):
        raise UserError(f"{name} has no training image left after the split")
    return ImageSplits(name, train, validation, test, classes)


def _in_memory(arrays: np.ndarray, labels: np.ndarray, name: str) -> LabelledImages:
    return LabelledImages(
        read=lambda i, channels: to_channels(Image.fromarray(arrays[i]), channels),
        labels=labels.astype(np.int64),
        name=lambda i: f"{name}[{i}]",
    )


def _digits(argument: str, options: _Options) -> ImageSplits:
    from sklearn.datasets import load_digits  # heavy, and of no use to the other sources

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    images = _in_memory(pixels, digits.target, "digits")
    return _assemble("digits", [str(digit) for digit in range(10)], images, options)


def _imagefolder(argument: str, options: _Options) -> ImageSplits:
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise UserError(f"no folder at {root}")
    if not (root / "train").is_dir():
        classes = _class_folders(root)
        images, left_out = _read_folder(root, classes, options.skip_unreadable)
        return replace(_assemble(str(root), classes, images, options), left_out=left_out)
    classes = _class_folders(root / "train")
    parts: dict[str, LabelledImages] = {}
    left_out = ()
    for part in ("train", "validation", "test"):
        names = _VALIDATION_NAMES if part == "validation" else (part,)
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is not None:
            foreign = sorted(set(_class_folders(folder)) - set(classes))
            if foreign:
                raise UserError(f"{folder} has classes that {root / 'train'} lacks: {', '.join(foreign[:5])}")
            parts[part], more = _read_folder(folder, classes, options.skip_unreadable, part == "train")
            left_out += more
    test = parts.get("test")
    validation = parts.get("validation")
    if test is None and validation is not None:  # the ImageNet layout: its val is what papers report on
        test, validation = validation, None
    return replace(_assemble(str(root), classes, parts["train"], options, validation, test), left_out=left_out)


def _class_folders(folder: Path) -> list[str]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"{folder} has no class folders: expected {folder}/CLASS/IMAGE")
    return classes


def _read_folder(
    folder: Path, classes: list[str], skip_unreadable: bool, is_training: bool = True
) -> tuple[LabelledImages, tuple[str, ...]]:
    paths: list[Path] = []
    foreign: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            files = sorted(p for p in (folder / name).rglob("*") if p.is_file() and not p.name.startswith("."))
            found = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
            foreign += [p for p in files if p.suffix.lower() not in IMAGE_SUFFIXES]
            paths += found
            labels += [label] * len(found)
    if not paths:
        raise UserError(f"{folder} holds no image")
    present = set(labels)
    empty = [name for label, name in enumerate(classes) if label not in present]
    if empty and is_training and not skip_unreadable:
        others = f" (it has {', '.join(p.name for p in foreign[:3])})" if foreign else ""
        raise UserError(f"{folder} has classes without an image: {', '.join(empty[:5])}{others}")
    bad = _unreadable(paths)
    if bad and not skip_unreadable:
        listed = "; ".join(list(bad.values())[:5])
        raise UserError(
            f"{len(bad)} of {len(paths)} images in {folder} cannot be read: {listed}. Mend or remove them, or pass "
            "--set data.skip_unreadable=true"
        )
    keep = [i for i, path in enumerate(paths) if path not in bad]
    if not keep:
        raise UserError(f"no readable image in {folder}")
    kept = [paths[i] for i in keep]
    images = LabelledImages(
        read=lambda i, channels: load_image(kept[i], channels),
        labels=np.asarray([labels[i] for i in keep], dtype=np.int64),
        name=lambda i: str(kept[i]),
    )
    return images, tuple(str(path) for path in bad)


def _unreadable(paths: list[Path]) -> dict[Path, str]:
    """Files that cannot be decoded whole, with the reason. Every file is opened: a run must not fail in the middle."""
    from concurrent.futures import ThreadPoolExecutor

    def check(path: Path) -> str | None:
        try:
            load_image(path)
        except ValueError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(check, paths))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason is not None}


def _torchvision(argument: str, options: _Options) -> ImageSplits:
    from torchvision import datasets  # heavy

    available = [name for name in datasets.__all__ if isinstance(getattr(datasets, name, None), type)]
    if argument not in available:
        near = difflib.get_close_matches(argument, available, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"torchvision has no data set {argument!r}{hint}")
    root = Path(options.root).expanduser() if options.root else Path.home() / ".cache" / "crate_transformers" / "data"
    parts = [_torchvision_part(getattr(datasets, argument), argument, root, train) for train in (True, False)]
    classes = _torchvision_classes(parts[0])
    train, test = (_from_torchvision(part, argument) for part in parts)
    return _assemble(f"torchvision:{argument}", classes, train, options, test=test)


def _torchvision_part(dataset: Any, name: str, root: Path, train: bool) -> Any:
    """One part of a torchvision data set; some say `train=`, others `split=`."""
    import inspect

    parameters = inspect.signature(dataset.__init__).parameters
    if "train" in parameters:
        arguments: dict[str, Any] = {"train": train}
    elif "split" in parameters:
        splits = {"OxfordIIITPet": ("trainval", "test"), "Food101": ("train", "test"), "STL10": ("train", "test")}
        arguments = {"split": splits.get(name, ("train", "test"))[0 if train else 1]}
    else:
        raise UserError(f"torchvision:{name} has no training and test part: save it as folders, use imagefolder:PATH")
    try:
        return dataset(root=str(root), **arguments)
    except RuntimeError:
        pass  # not there yet
    try:
        return dataset(root=str(root), download=True, **arguments)
    except Exception as error:
        raise UserError(
            f"torchvision:{name} is not in {root} and could not be downloaded ({error}); pass --set data.root=FOLDER"
        ) from error


def _torchvision_classes(part: Any) -> list[str]:
    if getattr(part, "classes", None):
        return [str(name) for name in part.classes]
    return [str(label) for label in range(int(_torchvision_labels(part).max()) + 1)]


def _torchvision_labels(part: Any) -> np.ndarray:
    for attribute in ("targets", "_labels", "labels"):
        labels = getattr(part, attribute, None)
        if labels is not None:
            return np.asarray(labels, dtype=np.int64)
    return np.asarray([part[i][1] for i in range(len(part))], dtype=np.int64)


def _from_torchvision(part: Any, name: str) -> LabelledImages:
    return LabelledImages(
        read=lambda i, channels: to_channels(part[i][0], channels),
        labels=_torchvision_labels(part),
        name=lambda i: f"torchvision:{name}[{i}]",
    )


def _hub(argument: str, options: _Options) -> ImageSplits:
    from datasets import ClassLabel, load_dataset  # heavy
    from datasets import Image as ImageFeature

    try:
        parts = load_dataset(argument)
    except Exception as error:
        raise UserError(f"the data set {argument} could not be loaded: {error}") from error
    first = parts[next(iter(parts))]
    image = next((name for name, feature in first.features.items() if isinstance(feature, ImageFeature)), None)
    label = next((name for name, feature in first.features.items() if isinstance(feature, ClassLabel)), None)
    if image is None or label is None:
        raise UserError(f"{argument} needs an image column and a class-label column, has {list(first.features)}")
    classes = list(first.features[label].names)

    def wrap(part: Any) -> LabelledImages:
        return LabelledImages(
            read=lambda i, channels: to_channels(part[i][image], channels),
            labels=np.asarray(part[label], dtype=np.int64),
            name=lambda i: f"hub:{argument}[{i}]",
        )

    if "train" not in parts:
        raise UserError(f"{argument} has no split named train, has {', '.join(parts)}")
    validation = next((wrap(parts[name]) for name in _VALIDATION_NAMES if name in parts), None)
    test = wrap(parts["test"]) if "test" in parts else None
    if test is None and validation is not None:
        test, validation = validation, None
    return _assemble(f"hub:{argument}", classes, wrap(parts["train"]), options, validation, test)


def count_by_class(images: LabelledImages, classes: list[str]) -> dict[str, int]:
    """How many images each class has."""
    counts = Counter(images.labels.tolist())
    return {name: counts.get(label, 0) for label, name in enumerate(classes)}


__all__ = ["ImageSplits", "LabelledImages", "count_by_class", "load_image_source"]
