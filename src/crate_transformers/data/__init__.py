"""Images and text in, tensors out; the built-in data.

images/, tables/ and text/ are the three kinds of sources; beside them stands what they share: files.py (files and their
names), parts.py (train, validation, test), keys.py (random numbers that are functions of seed, epoch and sample).
"""

from .batches import KeyedBatches
from .images import (
    IMAGE_SUFFIXES,
    CropTransform,
    EvaluationTransform,
    HeldOutSet,
    HeldOutSource,
    ImageCollator,
    ImageSplits,
    KeyedImages,
    LabelledImages,
    MaskedImages,
    MultiCropImages,
    ShardPlan,
    TrainingTransform,
    find_images,
    is_held_out_source,
    load_held_out_source,
    load_image,
    load_image_source,
    make_shards,
    over_classes,
    stack_items,
)
from .keys import EpochSampler, keyed_generator

__all__ = [
    "IMAGE_SUFFIXES",
    "CropTransform",
    "EpochSampler",
    "EvaluationTransform",
    "HeldOutSet",
    "HeldOutSource",
    "ImageCollator",
    "ImageSplits",
    "KeyedBatches",
    "KeyedImages",
    "LabelledImages",
    "MaskedImages",
    "MultiCropImages",
    "ShardPlan",
    "TrainingTransform",
    "find_images",
    "is_held_out_source",
    "keyed_generator",
    "load_held_out_source",
    "load_image",
    "load_image_source",
    "make_shards",
    "over_classes",
    "stack_items",
]
