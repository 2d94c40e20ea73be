"""Images whose foreground is known: objects pasted, tinted, at random places over textures cut from photographs.

    python benchmarks/composed_images.py FOLDER --root FOLDER_OF_FASHION_MNIST

writes FOLDER/images/{train,test}/CLASS/*.png, for `crate train --data imagefolder:FOLDER/images`, and the outlines of
the test objects as FOLDER/masks/*.png (0 background, 1 + class on the object), for `crate segment --evaluate`.

Objects: Fashion-MNIST's, or scikit-learn's digits where it is absent. Textures: the photographs that scikit-learn and
matplotlib ship; the training and the test images use different halves of each.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from crate_transformers.data import load_image_source

OUTLINE = 0.12  # the brightness, in [0, 1], from which a pixel of an object's picture belongs to the object


@dataclass(frozen=True)
class Composition:
    """How an image is put together. Sizes in pixels; the object's picture is square, as is the image."""

    train_images: int = 24000
    test_images: int = 1000
    image_size: int = 32
    object_size: int = 22
    seed: int = 0


@dataclass(frozen=True)
class Objects:
    """pictures (n, h, w) uint8, bright on black; labels (n,); the names of the classes."""

    pictures: np.ndarray
    labels: np.ndarray
    classes: list[str]


def load_objects(root: Path | None) -> tuple[str, dict[str, Objects]]:
    """(the data set's name, {"train": its training objects, "test": its test objects})."""
    if root is None:
        digits = load_digits()
        pictures = np.stack(
            [np.asarray(Image.fromarray(np.uint8(image * 15.9)).resize((28, 28), 2)) for image in digits.images]
        )
        test, train = np.split(np.random.default_rng(0).permutation(len(pictures)), [360])
        names = [str(digit) for digit in range(10)]
        return "digits", {
            part: Objects(pictures[rows], digits.target[rows], names)
            for part, rows in {"train": train, "test": test}.items()
        }
    splits = load_image_source("torchvision:FashionMNIST", root, validation_fraction=0)
    parts = {"train": splits.train, "test": splits.test}
    names = [name.replace("/", "-") for name in splits.classes]
    return "Fashion-MNIST", {
        part: Objects(np.stack([np.asarray(own.read(i, 1)) for i in range(len(own))]), own.labels, names)
        for part, own in parts.items()
    }


def load_textures(part: str) -> list[np.ndarray]:
    """One half of every photograph (H, W, 3) uint8."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        photographs = [*load_sample_images().images, np.asarray(Image.open(file).convert("RGB"))]
    halves = [np.array_split(photograph, 2, axis=1) for photograph in photographs]
    return [left if part == "train" else right for left, right in halves]


def paste(picture: np.ndarray, textures: list[np.ndarray], size: int, side: int, random: np.random.Generator):
    """An object's picture over a piece of a texture: (image (size, size, 3) uint8, outline (size, size) bool)."""
    texture = textures[random.integers(len(textures))]
    scale = random.integers(1, 4)  # coarse and fine grounds
    top, left = (random.integers(extent - scale * size + 1) for extent in texture.shape[:2])
    image = texture[top : top + scale * size : scale, left : left + scale * size : scale] / 255
    item = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)) / 255
    top, left = random.integers(size - side + 1, size=2)
    outline = np.zeros((size, size), dtype=bool)
    outline[top : top + side, left : left + side] = item > OUTLINE
    tint = random.uniform(0.4, 1.0, size=3)
    image[outline] = (0.15 + 0.85 * item[item > OUTLINE, None]) * tint
    return np.uint8(np.round(255 * image)), outline


def write_images(folder: Path, root: Path | None, composition: Composition) -> str:
    """Write the images and the outlines of the test images; returns the name of the objects' data set."""
    name, parts = load_objects(root)
    for number, (part, objects) in enumerate(parts.items()):
        random = np.random.default_rng([composition.seed, number])
        textures = load_textures(part)
        for i in range(composition.train_images if part == "train" else composition.test_images):
            chosen = random.integers(len(objects.labels))
            label = objects.labels[chosen]
            image, outline = paste(
                objects.pictures[chosen], textures, composition.image_size, composition.object_size, random
            )
            file = Path(objects.classes[label]) / f"{i:05d}.png"
            _save(image, folder / "images" / part / file)
            if part == "test":
                _save(np.uint8(outline * (label + 1)), folder / "masks" / file.name)
    return name


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", type=Path, help="where torchvision keeps FashionMNIST; without it: digits")
    arguments = parser.parse_args()
    name = write_images(arguments.folder, arguments.root, Composition())
    print(f"{name} over textures in {arguments.folder}/images, outlines in {arguments.folder}/masks")


if __name__ == "__main__":
    main()
