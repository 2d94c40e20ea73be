"""Pictures to tensors: as the image processor does for evaluation, with augmentation for training."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from transformers import CLIPImageProcessor

from ...errors import UserError
from ...upstream import PILImageResampling
from .rand_augment import rand_augment as rand_augment_of


def interpolation_of(processor: CLIPImageProcessor) -> v2.InterpolationMode:
    """The interpolation with which an image processor resizes, as torchvision calls it."""
    return v2.InterpolationMode(PILImageResampling(processor.resample).name.lower())


class EvaluationTransform:
    """A picture to (C, H, W), by the model's own image processor: the same numbers as `crate predict`."""

    def __init__(self, processor: CLIPImageProcessor):
        self.processor = processor

    def __call__(self, picture: Image.Image) -> Tensor:
        return self.processor(picture, return_tensors="pt")["pixel_values"][0]


class TrainingTransform:
    """Augmentation, then the processor's scaling: a picture, or its pixels (C, H, W) uint8, to (C, H, W).

    Random numbers are torch's global ones.

    Args:
        processor: gives image size, interpolation, mean and standard deviation.
        crop: "random_resized" (crop of random size and shape), "pad" (4 pixels in 32, then a random crop) or "none".
        crop_scale: smallest and largest share of the area that a random crop takes.
        flip: mirror half of the pictures.
        rand_augment: (operations, magnitude), the text of timm's, or None.
        random_erasing: probability of erasing a rectangle. erasing_fill: "mean", or "noise", each number of it drawn.
        color_jitter: brightness, contrast and saturation are each multiplied by a number in [1 - this, 1 + this].
    """

    takes_pixels = True

    def __init__(
        self,
        processor: CLIPImageProcessor,
        crop: str = "none",
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: bool = False,
        rand_augment: Sequence[int] | str | None = None,
        random_erasing: float = 0.0,
        color_jitter: float = 0.0,
        erasing_fill: str = "mean",
    ):
        if crop not in ("random_resized", "pad", "none"):
            raise UserError(f"data.crop must be random_resized, pad or none, got {crop!r}")
        size = (processor.crop_size["height"], processor.crop_size["width"])
        resizing: dict[str, Any] = {"interpolation": interpolation_of(processor), "antialias": True}
        steps: list[Callable[[Any], Any]] = [v2.PILToTensor()]
        if crop == "random_resized":
            steps.append(v2.RandomResizedCrop(size, scale=tuple(crop_scale), **resizing))
        else:
            steps.append(v2.Resize(size, **resizing))
        if crop == "pad":
            steps.append(v2.RandomCrop(size, padding=[max(1, size[1] // 8), max(1, size[0] // 8)]))
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        if rand_augment:
            steps.append(rand_augment_of(rand_augment, processor))
        if color_jitter:
            steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(processor.image_mean, processor.image_std)]
        if random_erasing:
            steps.append(v2.RandomErasing(random_erasing, value="random" if erasing_fill == "noise" else 0))
        self.steps = v2.Compose(steps)

    def __call__(self, picture: Image.Image | Tensor) -> Tensor:
        return self.steps(picture)


__all__ = ["EvaluationTransform", "TrainingTransform", "interpolation_of"]
