"""ImageNet's other test sets, by folder: pictures that a classifier of ImageNet-1k is tried on and never trained on.

    imagenet-v2:PATH     PATH/0 ... PATH/999, folders named by the number of the class       arXiv 1902.10811
    imagenet-real:PATH   ILSVRC2012_val_*.JPEG anywhere in PATH, real.json in PATH or beside it  arXiv 2006.07159
    imagenet-c:PATH      PATH/CORRUPTION/SEVERITY/CLASS/IMAGE, or one level more above, as in the archives
                         (noise/gaussian_noise/1/n01440764/...)                               arXiv 1903.12261

Classes are numbers: the place of a class among ImageNet's 1000 identifiers (n01440764, ...) in sorted order, which is
the order of the outputs of every common classifier. Nothing is decoded before it is used.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files import user_path
from .decoding import load_image
from .finding import IMAGE_SUFFIXES, files_below, is_litter
from .labelled import LabelledImages

_SEVERITIES = tuple(str(severity) for severity in range(1, 6))
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})", re.IGNORECASE)
_REAL = "real.json"
_CLASSES = 1000


@dataclass(frozen=True)
class HeldOutSet:
    """Pictures that a classifier is tried on.

    Attributes:
        images: the pictures; their labels are numbers of classes.
        group: what the set is of, as ("fog", "3"); empty where the source is a single set.
        accepted: the labels of each picture where several are right; `images.labels` has the first of them.
    """

    images: LabelledImages
    group: tuple[str, ...] = ()
    accepted: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class HeldOutSource:
    """One or more sets of a source, opened when asked for. notes: what is not used or not there, a sentence each."""

    name: str
    groups: tuple[tuple[str, ...], ...]
    open: Callable[[tuple[str, ...]], HeldOutSet]
    notes: tuple[str, ...] = ()

    def sets(self) -> Iterator[HeldOutSet]:
        """The sets, in the order of `groups`."""
        return map(self.open, self.groups)


def is_held_out_source(source: str) -> bool:
    """Whether a source is one of those of this file, by what stands before its colon."""
    return source.partition(":")[0] in HELD_OUT_SOURCES


def load_held_out_source(source: str, class_names: Sequence[str]) -> HeldOutSource:
    """Open a source that is only for trying classifiers.

    Args:
        source: "imagenet-v2:PATH", "imagenet-real:PATH" or "imagenet-c:PATH".
        class_names: the names of the model's classes, in the order of its outputs.

    Raises:
        UserError: no such folder, folders or files that are not named as the set is, or more classes than the model's.
    """
    kind, _, argument = source.partition(":")
    if not argument:
        raise UserError(f"--data {kind} needs a folder: {kind}:PATH")
    root = user_path(argument)
    if not root.is_dir():
        raise UserError(f"no folder at {root}")
    return HELD_OUT_SOURCES[kind](root, class_names)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not is_litter(path.name))
    except OSError as error:
        raise UserError(f"{root} cannot be read: {error.strerror}") from error


def _pictures(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def _labelled(paths: list[Path], labels: Sequence[int]) -> LabelledImages:
    return LabelledImages(
        read=lambda i, channels: load_image(paths[i], channels),
        labels=np.asarray(labels, dtype=np.int64),
        name=lambda i: str(paths[i]),
    )


def _from_folders(folders: Sequence[tuple[int, Path]], root: Path) -> LabelledImages:
    """The pictures of (class, folder) pairs."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, folder in folders:
        found = _pictures(folder)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise UserError(f"{root} holds no image")
    return _labelled(paths, labels)


def _v2(root: Path, class_names: Sequence[str]) -> HeldOutSource:
    """ImageNet-V2, whose folders are numbers: sorted as text, "10" would come before "2", and 998 labels be wrong."""
    folders = _folders(root)
    inner = [folder for folder in folders if not folder.name.isdecimal()]
    if not folders or inner:
        listed = ", ".join(folder.name for folder in inner[:3]) or "no folder"
        raise UserError(
            f"{root} has {listed}: expected the folders 0 to {len(class_names) - 1}, named by the number of their class"
        )
    numbered = sorted((int(folder.name), folder) for folder in folders)
    if numbered[-1][0] >= len(class_names):
        raise UserError(f"{root} has a class {numbered[-1][0]}, the model has {len(class_names)} classes, from 0")
    if len({label for label, _ in numbered}) < len(numbered):
        raise UserError(f"{root} has two folders of one number, as 1 and 01: keep one of them")
    if len(numbered) < len(class_names):
        raise UserError(f"{root} has {len(numbered)} folders, the model {len(class_names)} classes: they do not fit")
    return HeldOutSource(str(root), ((),), lambda group: HeldOutSet(_from_folders(numbered, root), group))


def _real(root: Path, class_names: Sequence[str]) -> HeldOutSource:
    """ImageNet-ReaL: entry i of real.json has the labels of ILSVRC2012_val_{i + 1}; none where no class fits."""
    if len(class_names) != _CLASSES:
        raise UserError(f"imagenet-real is for classifiers of ImageNet's {_CLASSES} classes, not of {len(class_names)}")
    place = next((path for path in (root / _REAL, root.parent / _REAL) if path.is_file()), None)
    if place is None:
        raise UserError(f"no {_REAL} in {root} or beside it: it holds the labels of ImageNet-ReaL")
    known = _label_sets(place, len(class_names))
    paths, accepted, empty = [], [], 0
    for path in _pictures(root):
        match = _VALIDATION_NAME.fullmatch(path.stem)
        number = int(match[1]) if match else 0
        if not 1 <= number <= len(known):
            raise UserError(f"{path} is not named ILSVRC2012_val_00000001 to {len(known):08d}: {_REAL} has no label")
        if known[number - 1]:
            paths.append(path)
            accepted.append(known[number - 1])
        else:
            empty += 1
    if not paths:
        raise UserError(f"{root} holds no image of ImageNet's validation part that has a label in {place}")
    notes = [f"{empty} pictures without a label in {_REAL} are left out, as in the paper"] if empty else []
    if len(paths) + empty < len(known):
        notes.append(f"{root} has {len(paths) + empty} of the {len(known)} pictures that {_REAL} lists")
    images = _labelled(paths, [labels[0] for labels in accepted])
    return HeldOutSource(str(root), ((),), lambda group: HeldOutSet(images, group, tuple(accepted)), tuple(notes))


def _label_sets(place: Path, num_classes: int) -> list[tuple[int, ...]]:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        sets = [tuple(sorted(labels)) for labels in content]
        fits = all(type(label) is int and 0 <= label < num_classes for labels in sets for label in labels)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{place} cannot be read as a list of lists of labels: {error}") from error
    if not fits:
        raise UserError(f"{place} has a label that is no integer from 0 to {num_classes - 1}, the model's classes")
    return sets


def _corrupted(root: Path, class_names: Sequence[str]) -> HeldOutSource:
    """ImageNet-C, with or without the folders of its archives (noise, blur, weather, digital, extra) above."""
    found: dict[str, Path] = {}
    for folder in _folders(root):
        inside = [folder] if (folder / _SEVERITIES[0]).is_dir() else _folders(folder)
        for corruption in inside:
            severities = [path.name for path in _folders(corruption)]
            if not severities or set(severities) - set(_SEVERITIES):
                raise UserError(
                    f"{corruption} has the folders {', '.join(severities[:3]) or 'none'}: expected severities 1 to 5"
                )
            if corruption.name in found:
                raise UserError(f"{root} has {found[corruption.name]} and {corruption}: keep one of them")
            found[corruption.name] = corruption
    if not found:
        raise UserError(f"{root} has no folders CORRUPTION/SEVERITY/CLASS")
    groups = tuple((name, path.name) for name, folder in sorted(found.items()) for path in _folders(folder))
    missing = [f"{name} {level}" for name in sorted(found) for level in _SEVERITIES if (name, level) not in groups]
    notes = (f"{root} lacks {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}",) if missing else ()
    open_set = partial(_corrupted_set, found, list(class_names))
    return HeldOutSource(str(root), groups, open_set, notes)


def _corrupted_set(found: dict[str, Path], class_names: list[str], group: tuple[str, ...]) -> HeldOutSet:
    folder = found[group[0]] / group[1]
    classes = _folders(folder)
    names = [path.name for path in classes]
    if set(names) <= set(class_names):
        places = [class_names.index(name) for name in names]
    elif len(names) == len(class_names):
        places = list(range(len(names)))  # sorted identifiers: the order of ImageNet
    else:
        raise UserError(
            f"{folder} has {len(names)} class folders, the model {len(class_names)} classes of other names: their "
            "order cannot be known"
        )
    return HeldOutSet(_from_folders(list(zip(places, classes, strict=True)), folder), group)


HELD_OUT_SOURCES: dict[str, Callable[[Path, Sequence[str]], HeldOutSource]] = {
    "imagenet-v2": _v2,
    "imagenet-real": _real,
    "imagenet-c": _corrupted,
}

__all__ = ["HELD_OUT_SOURCES", "HeldOutSet", "HeldOutSource", "is_held_out_source", "load_held_out_source"]
