"""Registration with transformers' Auto classes, so that `AutoModel...from_pretrained` finds every family."""

import json
from functools import wraps
from pathlib import Path
from typing import Any, cast

import transformers
from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, ViTImageProcessor

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
    _open_own_folders()


def _is_own_folder(source: object) -> bool:
    file = Path(source, "config.json") if isinstance(source, str | Path) else None
    if file is None or not file.is_file():
        return False
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("model_type") in MODEL_FAMILIES


def _open_own_folders() -> None:
    """Let AutoBackbone open a folder of this library.

    In transformers 5.17 to 5.24 it asks the hub for a repository of that name first, which a path cannot be; every
    other name goes the way that it went.
    """
    auto: Any = AutoBackbone
    usual = auto.from_pretrained.__func__
    if hasattr(usual, "opens_own_folders"):
        return

    @wraps(usual)
    def from_pretrained(cls: type[object], source: object, *arguments: object, **keywords: object) -> object:
        if not _is_own_folder(source):
            return usual(cls, source, *arguments, **keywords)
        keywords.pop("use_timm_backbone", None)
        return super(auto.__mro__[1], cls).from_pretrained(source, *arguments, **keywords)

    vars(from_pretrained)["opens_own_folders"] = True
    auto.from_pretrained = classmethod(cast(Any, from_pretrained))


__all__ = ["register_auto_classes"]
