"""Images and text in, tensors out; the built-in data."""

from .collate import ImageCollator
from .datasets import EpochSampler, KeyedImages, keyed_generator
from .images import IMAGE_SUFFIXES, find_images, load_image
from .masked_images import MaskedImages, stack_items
from .multi_crop import CropTransform, MultiCropImages
from .sources import ImageSplits, LabelledImages, load_image_source
from .transforms import EvaluationTransform, TrainingTransform

__all__ = [
    "IMAGE_SUFFIXES",
    "CropTransform",
    "EpochSampler",
    "EvaluationTransform",
    "ImageCollator",
    "ImageSplits",
    "KeyedImages",
    "LabelledImages",
    "MaskedImages",
    "MultiCropImages",
    "TrainingTransform",
    "find_images",
    "keyed_generator",
    "load_image",
    "load_image_source",
    "stack_items",
]
