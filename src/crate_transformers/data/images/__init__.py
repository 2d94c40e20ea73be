"""Pictures: found, decoded, labelled, turned into tensors and batches."""

from .collate import ImageCollator
from .decoding import load_image
from .finding import IMAGE_SUFFIXES, find_images
from .imagenet import HeldOutSet, HeldOutSource, is_held_out_source, load_held_out_source
from .keyed import KeyedImages
from .labelled import ImageSplits, LabelledImages, over_classes
from .masked import MaskedImages, stack_items
from .multi_crop import CropTransform, MultiCropImages
from .sharding import ShardPlan, make_shards
from .sources import load_image_source
from .transforms import EvaluationTransform, TrainingTransform

__all__ = [
    "IMAGE_SUFFIXES",
    "CropTransform",
    "EvaluationTransform",
    "HeldOutSet",
    "HeldOutSource",
    "ImageCollator",
    "ImageSplits",
    "KeyedImages",
    "LabelledImages",
    "MaskedImages",
    "MultiCropImages",
    "ShardPlan",
    "TrainingTransform",
    "find_images",
    "is_held_out_source",
    "load_held_out_source",
    "load_image",
    "load_image_source",
    "make_shards",
    "over_classes",
    "stack_items",
]
