"""Opening the demonstration that comes with the package."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import UserError
from ..models.inputs import open_processor, open_tokenizer
from ..models.opening import open_model

NAMES = ("fashion", "fashion-vit", "fashion-mae", "python")
_HERE = Path(__file__).parent
_SIDE = 28  # pixels of a picture


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that no training saw.

    Attributes:
        name: of the data set. images: in mode "L". labels: the class of each, by name.
    """

    name: str
    images: tuple[Image.Image, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Demonstration:
    """A small trained model and what it is shown.

    Attributes:
        name: of `NAMES`. folder: where it lies; every command takes it.
        model: in float32, in evaluation mode, on the CPU.
        processor: the image processor of an image model. tokenizer: the tokenizer of a text model.
        pictures: 40 of the test part, four a class; None for a text model. texts: for a text model.
        metrics: what the run measured, as its metrics.json. recipe: the text of its recipe.
    """

    name: str
    folder: Path
    model: PreTrainedModel
    processor: Any = None
    tokenizer: PreTrainedTokenizerBase | None = None
    pictures: Pictures | None = None
    texts: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""


def folder_of(name: str) -> Path:
    """The folder of a demonstration.

    Raises:
        UserError: there is none of that name.
    """
    if name not in NAMES:
        raise UserError(f"there is no demonstration {name!r}: expected one of {', '.join(NAMES)}")
    return _HERE / name


def load(name: str) -> Demonstration:
    """A small trained model with its pictures or its tokenizer.

    Args:
        name: "fashion", "fashion-vit", "fashion-mae" or "python".

    Raises:
        UserError: there is none of that name.

    Example:
        >>> demonstration = load("fashion")
        >>> type(demonstration.model).__name__, len(demonstration.pictures.images)
        ('CrateForImageClassification', 40)
        >>> pixels = demonstration.processor(demonstration.pictures.images[0], return_tensors="pt")["pixel_values"]
        >>> demonstration.model(pixels).logits.shape
        torch.Size([1, 10])
    """
    folder = folder_of(name)
    model = open_model(folder, None).float().eval()
    model.config.dtype = model.dtype
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    common = {"metrics": metrics, "recipe": (folder / "recipe.yaml").read_text(encoding="utf-8")}
    if name == "python":
        return Demonstration(name, folder, model, tokenizer=open_tokenizer(folder), texts=texts(), **common)
    processor = open_processor(folder, model.config.num_channels)
    return Demonstration(name, folder, model, processor, pictures=pictures(), **common)


def pictures(name: str = "fashion") -> Pictures:
    """The pictures of the image models: 40 of the test part of Fashion-MNIST, four a class.

    Args:
        name: of any of the image models.

    Example:
        >>> shown = pictures()
        >>> shown.images[0].size, len(set(shown.labels))
        ((28, 28), 10)
    """
    if not name.startswith("fashion"):
        raise UserError(f"the demonstration {name!r} has no pictures")
    labels = json.loads((_HERE / "pictures.json").read_text(encoding="utf-8"))["labels"]
    with Image.open(_HERE / "pictures.png") as file:
        sheet = np.asarray(file.convert("L"))
    rows, columns = sheet.shape[0] // _SIDE, sheet.shape[1] // _SIDE
    tiles = sheet.reshape(rows, _SIDE, columns, _SIDE).swapaxes(1, 2).reshape(-1, _SIDE, _SIDE)
    return Pictures(
        "Fashion-MNIST (test)", tuple(Image.fromarray(tile) for tile in tiles[: len(labels)]), tuple(labels)
    )


def texts() -> tuple[str, ...]:
    """Sentences for the text model, of the part of the Python language reference that no training saw.

    Example:
        >>> len(texts()) >= 12
        True
    """
    return tuple(json.loads((_HERE / "texts.json").read_text(encoding="utf-8")))


__all__ = ["NAMES", "Demonstration", "Pictures", "folder_of", "load", "pictures", "texts"]
