"""The image processor of a converted model: how the public weights expect a picture."""

from typing import Any

from transformers import CLIPImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling

from ..configuration.validation import as_pair

_CROP_FRACTION = 224 / 256


def image_processor_of(config: Any) -> CLIPImageProcessor:
    """Resize 256, centre crop 224 (in the same proportion for other sizes), ImageNet mean and standard deviation.

    A non-square image is resized to its size without a crop. Grey models keep one channel, with the mean of the three.
    """
    height, width = as_pair(config.image_size)
    mean, std = list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)
    if config.num_channels != 3:
        mean = [sum(mean) / 3] * config.num_channels
        std = [sum(std) / 3] * config.num_channels
    square = height == width
    return CLIPImageProcessor(
        size={"shortest_edge": round(height / _CROP_FRACTION)} if square else {"height": height, "width": width},
        default_to_square=not square,
        do_center_crop=square,
        crop_size={"height": height, "width": width},
        resample=PILImageResampling.BILINEAR,
        image_mean=mean,
        image_std=std,
        do_convert_rgb=config.num_channels == 3,
    )


def imagenet_labels() -> dict[str, dict[Any, Any]]:
    """id2label and label2id of ImageNet-1k, in the order of the public classifiers."""
    from torchvision.models import ViT_B_16_Weights  # carries the names; kept off the import path

    names = ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"]
    id2label = dict(enumerate(names))
    # two names occur twice (crane, maillot): the first keeps the plain name
    return {"id2label": id2label, "label2id": {name: index for index, name in reversed(id2label.items())}}


__all__ = ["image_processor_of", "imagenet_labels"]
