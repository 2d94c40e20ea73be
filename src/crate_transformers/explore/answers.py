"""What a question is answered by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..report.pictures import to_pictures
from .subjects import Subject


@dataclass(frozen=True, eq=False)
class Answer:
    """What a question is answered by: plain data, and arrays by name."""

    data: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def within(self, name: str) -> "Answer":
        """The same under a name, to stand beside others."""
        return Answer({name: self.data}, {f"{name}/{key}": value for key, value in self.arrays.items()})


def together(answers: Sequence[Answer]) -> Answer:
    """Several answers as one."""
    data: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for answer in answers:
        data.update(answer.data)
        arrays.update(answer.arrays)
    return Answer(data, arrays)


def shown(subject: Subject, pixels: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of images (1, C, H, W) as the model reads them."""
    processor = subject.processor
    normalises = processor is not None and processor.do_normalize
    mean_std = (processor.image_mean, processor.image_std) if normalises and processor is not None else (None, None)
    return to_pictures(pixels, *mean_std)[0]


def thumbnail(picture: Image.Image) -> np.ndarray:
    """(32, 32, 3) uint8."""
    return np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))


def without_nan(value: Any) -> Any:
    """Plain data in which what is not a number is None, as JSON has it."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


__all__ = ["Answer", "shown", "thumbnail", "together", "without_nan"]
