"""Pictures that are decoded once and kept in memory, and the task that trains on them.

Decoding and preparing a picture with the model's image processor takes longer than a small model's step on it. Here the
pixels of a data set are read once into arrays; a batch is a slice of them, scaled as the processor scales. There is no
augmentation, so the numbers are those of the task `image-classification` without any (a test compares).

A data set is a folder of arrays: PART.npy (n, H, W, C) uint8, PART-labels.npy (n,), and for composed images
test-outlines.npy (n, H, W), 0 or 1 + class.
"""

import dataclasses
import json
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composed_images import Composition, load_objects, load_textures, paste
from torch import Tensor
from torch.utils.data import Dataset
from transformers import CLIPImageProcessor

from crate_transformers.data import ImageSplits, LabelledImages, load_image_source
from crate_transformers.data.keys import Key, key_of
from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.tasks import TASKS
from crate_transformers.recipes.tasks.declaration import TaskDeclaration
from crate_transformers.recipes.tasks.image_classification import TASK as CLASSIFICATION
from crate_transformers.training.tasks.image_classification import ImageClassification

PARTS = ("train", "validation", "test")
HISTORY = "history.json"  # the log of a run, in its folder
SPLIT_SEED = 0  # of the split and of the composition: runs differ by the seed of their training alone


def keep(name: str, folder: Path, root: Path | None, counts: dict[str, int] | None = None, size: int = 32) -> None:
    """Read or compose the pictures of a data set into arrays, unless the folder has them.

    Args:
        name: "fashion", "digits", or "composed". root: where torchvision keeps Fashion-MNIST; None: digits.
        counts: of a composed data set, how many pictures of each part. size: of a composed picture, pixels.
    """
    if (folder / "about.json").is_file():
        return
    staging = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    about = _compose(staging, root, counts or {}, size) if name == "composed" else _decode(name, staging, root)
    (staging / "about.json").write_text(json.dumps(about))
    staging.replace(folder)


def wait_for(folder: Path, seconds: float = 180.0) -> None:
    """Return when another process has made a data set.

    Raises:
        TimeoutError: it has not within the time.
    """
    end = time.monotonic() + seconds
    while not (folder / "about.json").is_file():
        if time.monotonic() > end:
            raise TimeoutError(f"there is no data set in {folder} after {seconds:g} s")
        time.sleep(0.1)


def _decode(name: str, folder: Path, root: Path | None) -> dict[str, Any]:
    source = "torchvision:FashionMNIST" if name == "fashion" else "digits"
    splits = load_image_source(source, root, validation_fraction=0.05, seed=SPLIT_SEED)
    for part in PARTS:
        images = getattr(splits, part)
        pixels = np.stack([np.asarray(images.read(i, 1)) for i in range(len(images))])
        np.save(folder / f"{part}.npy", pixels[..., None])
        np.save(folder / f"{part}-labels.npy", images.labels)
    return {"source": source, "classes": splits.classes}


def _compose(folder: Path, root: Path | None, counts: dict[str, int], size: int) -> dict[str, Any]:
    """Objects over textures, as composed_images.py makes them; validation from what training is made of."""
    composition = Composition(image_size=size, object_size=round(size * 22 / 32))
    objects_name, parts = load_objects(root)
    for number, part in enumerate(PARTS):
        objects = parts["test" if part == "test" else "train"]
        textures = load_textures("test" if part == "test" else "train")
        random = np.random.default_rng([SPLIT_SEED, number])
        images, labels, outlines = [], [], []
        for _ in range(counts[part]):
            chosen = random.integers(len(objects.labels))
            image, outline = paste(
                objects.pictures[chosen], textures, composition.image_size, composition.object_size, random
            )
            images.append(image)
            labels.append(objects.labels[chosen])
            outlines.append(outline * (objects.labels[chosen] + 1))
        np.save(folder / f"{part}.npy", np.stack(images))
        np.save(folder / f"{part}-labels.npy", np.asarray(labels, dtype=np.int64))
        if part == "test":
            np.save(folder / "test-outlines.npy", np.stack(outlines).astype(np.uint8))
    return {"source": f"{objects_name} over textures", "classes": objects.classes, "size": size, "counts": counts}


@dataclasses.dataclass(frozen=True)
class KeptImages(LabelledImages):
    """Labelled pictures whose pixels (n, H, W, C) uint8 are in memory."""

    pixels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 1, 1, 1), np.uint8))


@cache
def kept_splits(folder: Path) -> ImageSplits:
    """The three parts of a data set that `keep` left in a folder."""
    from PIL import Image

    about = json.loads((folder / "about.json").read_text())
    parts = {}
    for part in PARTS:
        pixels = np.load(folder / f"{part}.npy")
        labels = np.load(folder / f"{part}-labels.npy")

        def read(i: int, channels: int, own: np.ndarray = pixels) -> Image.Image:
            return Image.fromarray(own[i, ..., 0] if own.shape[-1] == 1 else own[i])

        parts[part] = KeptImages(read, labels, lambda i, part=part: f"{part}[{i}]", pixels=pixels)
    return ImageSplits(folder.name, **parts, classes=about["classes"])


@cache
def outlines_of(folder: Path) -> Tensor:
    """(n, H, W) of the test pictures of a composed data set: 0 background, 1 + class on the object."""
    return torch.from_numpy(np.load(folder / "test-outlines.npy")).long()


class KeptPixels(Dataset):
    """Items {"pixel_values", "labels", "key"} of kept pictures, scaled as a processor does; a batch is one slice."""

    def __init__(self, images: KeptImages, processor: CLIPImageProcessor) -> None:
        self.images = images
        mean, std = (torch.tensor(v)[None, :, None, None] for v in (processor.image_mean, processor.image_std))
        self.scale, self.shift = 1 / (255 * std), mean / std

    def __len__(self) -> int:
        return len(self.images)

    def pixel_values(self, places: Any) -> Tensor:
        """(B, C, H, W) float32 of the pictures at these places."""
        pixels = torch.from_numpy(self.images.pixels[places]).permute(0, 3, 1, 2)
        return pixels * self.scale - self.shift

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list[Key | int]) -> list[dict[str, Any]]:
        found = [key_of(key) for key in keys]
        places = [key[1] for key in found]
        values, labels = self.pixel_values(places), self.images.labels[places].tolist()
        return [
            {"pixel_values": value, "labels": label, "key": key}
            for value, label, key in zip(values, labels, found, strict=True)
        ]


class KeptImageClassification(ImageClassification):
    """Image classification on kept pictures: `data.source` is kept:FOLDER. Its report has no pictures."""

    def open_source(self) -> ImageSplits:
        return kept_splits(Path(self.data.source.removeprefix("kept:")))

    def augmented(self) -> Dataset:
        return self.plain(self.splits.train)

    def plain(self, images: KeptImages) -> Dataset:
        return KeptPixels(images, self.processor)

    def report(self, model: Any, history: list[dict[str, Any]]) -> list[Any]:
        (self.output / HISTORY).write_text(json.dumps(history))
        return []


DECLARED = TaskDeclaration(
    runs=f"{__name__}:KeptImageClassification",
    data=CLASSIFICATION.data,
    train=CLASSIFICATION.train,
    arguments=CLASSIFICATION.arguments,
    check=CLASSIFICATION.check,
)
TASK = "kept-image-classification"


def register() -> None:
    """Make the task known to recipes, and the families that do it."""
    TASKS[TASK] = f"{__name__}:DECLARED"
    for name in ("crate_vision", "tost_vision", "vit"):
        family = FAMILIES[name]
        if TASK not in family.tasks:
            FAMILIES[name] = dataclasses.replace(family, tasks=(*family.tasks, TASK))


register()

__all__ = [
    "HISTORY",
    "PARTS",
    "KeptImageClassification",
    "KeptPixels",
    "keep",
    "kept_splits",
    "outlines_of",
    "wait_for",
]
