"""Registration with transformers' Auto classes, so that `AutoModel...from_pretrained` finds every family."""

import transformers
from transformers import AutoConfig, AutoImageProcessor, ViTImageProcessor

from ..configuration.families import MODEL_FAMILIES, load_class


def register_auto_classes() -> None:
    """Register configurations, models and the image processor; calling it again changes nothing."""
    for family in MODEL_FAMILIES.values():
        config = family.config_class()
        AutoConfig.register(config.model_type, config, exist_ok=True)
        for auto_class, place in family.models.items():
            getattr(transformers, auto_class).register(config, load_class(place), exist_ok=True)
        if family.reads == "images":
            AutoImageProcessor.register(config, slow_image_processor_class=ViTImageProcessor, exist_ok=True)


__all__ = ["register_auto_classes"]
