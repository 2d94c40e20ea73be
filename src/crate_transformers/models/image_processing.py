"""The image processor of an image model: how it expects a picture, saved beside its weights."""

from collections.abc import Sequence
from typing import Any

from transformers import CLIPImageProcessor

from ..configuration.published import published_evaluation
from ..configuration.validation import as_pair
from ..errors import UserError
from ..upstream import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling

CROP_FRACTION = 224 / 256


def image_processor_of(
    config: Any,
    center_crop: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str = "bilinear",
    crop_fraction: float | None = None,
) -> CLIPImageProcessor:
    """The processor of a model with this configuration.

    Args:
        config: image_size and num_channels are read.
        center_crop: resize the shorter side to image_size / crop_fraction and crop image_size from the centre. Else,
            and for non-square images, resize to image_size.
        mean, std: of each channel, of pixels in [0, 1]; None is ImageNet's, averaged where there are not three.
        interpolation: "nearest", "bilinear" or "bicubic", with which pictures are resized.
        crop_fraction: None is 224 / 256, as in the public evaluation.
    """
    height, width = as_pair(config.image_size)
    channels = config.num_channels
    crops = center_crop and height == width
    shorter = round(height / (crop_fraction or CROP_FRACTION))
    return CLIPImageProcessor(
        size={"shortest_edge": shorter} if crops else {"height": height, "width": width},
        default_to_square=not crops,
        do_center_crop=crops,
        crop_size={"height": height, "width": width},
        resample=getattr(PILImageResampling, interpolation.upper()),
        image_mean=_per_channel(mean or IMAGENET_DEFAULT_MEAN, channels),
        image_std=_per_channel(std or IMAGENET_DEFAULT_STD, channels),
        do_convert_rgb=channels == 3,
    )


def published_processor_of(config: Any) -> CLIPImageProcessor:
    """The processor of a model that comes without one: pictures as its family's public code evaluates them."""
    interpolation, crop_fraction = published_evaluation(config.model_type)
    return image_processor_of(config, interpolation=interpolation, crop_fraction=crop_fraction)


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    if len(values) not in (1, 3, channels):
        raise UserError(f"mean and std need one value or one a channel ({channels}), got {list(values)}")
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


__all__ = ["CROP_FRACTION", "image_processor_of", "published_processor_of"]
