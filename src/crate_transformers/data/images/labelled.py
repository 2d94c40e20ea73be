"""Pictures with labels, and the three parts that every source of them gives."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from ...errors import UserError
from .damage import named_damage
from .jpeg import jpeg_pixels
from .modes import to_channels


@dataclass(frozen=True)
class LabelledImages:
    """Pictures that are read when asked for, and their labels.

    Attributes:
        read: (i, num_channels) -> a picture. name: i -> what to call picture i in a message.
        labels: (n,) int64.
        ends: of pictures in shards, where each shard ends, (shards,) int64; None where any picture is as near as any.
        encoded: i -> the bytes of its file; None where pictures come from no files.
        whole, places: of a subset, the pictures that it is of, and which of them, (n,) int.
    """

    read: Callable[[int, int], Image.Image]
    labels: np.ndarray
    name: Callable[[int], str]
    ends: np.ndarray | None = None
    encoded: Callable[[int], bytes] | None = None
    whole: "LabelledImages | None" = None
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: int, num_channels: int) -> Tensor:
        """(C, H, W) uint8 of picture `index`: the numbers of `read`, sooner where it is a JPEG file."""
        found = None
        if self.encoded is not None and num_channels == 3:
            with suppress(OSError):  # which `read` names
                found = jpeg_pixels(self.encoded(index))
        return pil_to_tensor(self.read(index, num_channels)) if found is None else found

    def subset(self, indices: Sequence[int] | np.ndarray) -> "LabelledImages":
        """The pictures at these places, in this order; of pictures in shards, the order must rise."""
        chosen = np.asarray(indices, dtype=np.int64)
        if self.whole is not None and self.places is not None:
            return self.whole.subset(self.places[chosen])
        ends = None if self.ends is None else np.searchsorted(chosen, self.ends)
        labels = self.labels[chosen]
        if len(self) <= np.iinfo(np.int32).max:
            chosen = chosen.astype(np.int32)
        return LabelledImages(
            read=lambda i, channels: self.read(int(chosen[i]), channels),
            labels=labels,
            name=lambda i: self.name(int(chosen[i])),
            ends=ends,
            encoded=None if self.encoded is None else partial(_encoded_of, self.encoded, chosen),
            whole=self,
            places=chosen,
        )


def _encoded_of(encoded: Callable[[int], bytes], places: np.ndarray, index: int) -> bytes:
    return encoded(int(places[index]))


@dataclass(frozen=True)
class ImageSplits:
    """The three parts of a source and its class names.

    left_out: the files that were left out as unreadable. notes: what else of the source is not used, a sentence each.
    """

    name: str
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    classes: list[str]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitOptions:
    """How a source is read; `load_image_source` says what each means."""

    root: str | Path | None
    validation_fraction: float
    test_fraction: float
    seed: int
    skip_unreadable: bool
    manifest_dir: str | Path | None = None


def labelled(picture: Callable[[int], Any], labels: np.ndarray, place: str) -> LabelledImages:
    """Pictures that a function of the index gives; messages call them place[i]."""

    def read(index: int, num_channels: int) -> Image.Image:
        """Picture `index`, in "L" or "RGB"."""
        with named_damage(f"{place}[{index}]"):
            return to_channels(picture(index), num_channels, f"{place}[{index}]")

    return LabelledImages(read, labels, lambda index: f"{place}[{index}]")


def checked_labels(labels: Iterable[object], num_classes: int, place: str) -> np.ndarray | None:
    """Labels as (n,) int64 in 0 ... num_classes - 1; None where no picture has one (each is -1 or None).

    Args:
        labels: one for each picture, as a source gives them. place: what to call the source in a message.

    Raises:
        UserError: labels of some pictures alone, out of range, or other than one integer a picture.
    """
    try:
        numbers = np.asarray(labels)
        if numbers.dtype == object:
            numbers = np.asarray([-1 if label is None else label for label in labels])
    except ValueError:  # lists of several lengths
        numbers = np.empty((0, 0))
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
        raise UserError(f"the labels of {place} are not one integer a picture")
    missing = int((numbers == -1).sum())
    if missing and missing == len(numbers):
        return None
    if missing:
        raise UserError(
            f"{place} has {missing} pictures without a label (-1) among {len(numbers)}: label or remove them"
        )
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < num_classes):
        raise UserError(
            f"{place} has labels from {numbers.min()} to {numbers.max()}: expected 0 to {num_classes - 1}, one for "
            f"each of its {num_classes} classes"
        )
    return numbers.astype(np.int64)


def _split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, taken): a share of every class, drawn with the seed."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    grouped = np.argsort(labels, kind="stable")  # places, class by class
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    for stop, count in zip(np.cumsum(counts), counts, strict=True):
        members = generator.permutation(grouped[stop - count : stop])
        chosen[members[: round(fraction * len(members))]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def assemble(
    name: str,
    classes: list[str],
    parts: dict[str, LabelledImages],
    options: SplitOptions,
    left_out: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> ImageSplits:
    """Splits of the parts "train", "validation" and "test"; what is missing of the last two is carved from "train".

    Where there is a validation part and no test part, it is the test part, and validation is carved.

    Raises:
        UserError: nothing is left to train on.
    """
    train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    if test is None and validation is not None:  # the ImageNet layout: its val is what papers report on
        test, validation = validation, None
    if test is None:
        kept, taken = _split(train.labels, options.test_fraction, options.seed)
        train, test = train.subset(kept), train.subset(taken)
    if validation is None:
        kept, taken = _split(train.labels, options.validation_fraction, options.seed + 1)
        train, validation = train.subset(kept), train.subset(taken)
    if not len(train):
        raise UserError(f"{name} has no training image left after the split")
    return ImageSplits(name, train, validation, test, classes, left_out, notes)


def over_classes(labels: Sequence[int] | np.ndarray, count: int) -> list[int]:
    """At most `count` places whose labels are as many different ones as there can be.

    The first of each class in turn, then the second of each, and so on; of more classes than places, some evenly apart.

    Example:
        >>> over_classes([0, 0, 0, 1, 1, 2], 4)
        [0, 3, 5, 1]
        >>> over_classes([0, 1, 2, 3], 2)
        [0, 2]
    """
    places: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(int(label), []).append(place)
    classes = sorted(places)
    if count < len(classes):
        return [places[classes[i * len(classes) // count]][0] for i in range(count)]
    turns = zip_longest(*(places[label] for label in classes))
    return [place for turn in turns for place in turn if place is not None][:count]


def count_by_class(images: LabelledImages, classes: list[str]) -> dict[str, int]:
    """How many images each class has."""
    counts = Counter(images.labels.tolist())
    return {name: counts.get(label, 0) for label, name in enumerate(classes)}


__all__ = [
    "ImageSplits",
    "LabelledImages",
    "SplitOptions",
    "assemble",
    "checked_labels",
    "count_by_class",
    "labelled",
    "over_classes",
]
