"""Accuracy and loss of a saved image classifier on a source of labelled images."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..data import EvaluationTransform, KeyedImages, load_image_source
from ..errors import UserError
from .prediction import class_names, load_classifier


@torch.no_grad()
def evaluate_classifier(
    folder: str | Path, source: str, split: str = "test", batch_size: int = 64, **options: Any
) -> dict[str, Any]:
    """Accuracy and mean loss of a classifier on one part of a source of labelled images.

    Args:
        source, options: as `load_image_source` takes them.
        split: "train", "validation" or "test".

    Returns:
        split, images (their number), accuracy in [0, 1], loss in nats.

    Raises:
        ValueError: the classes are not the model's, the part is empty, or the source or the model cannot be opened.
    """
    splits = load_image_source(source, **options)
    if split not in ("train", "validation", "test"):
        raise UserError(f"split must be train, validation or test, got {split!r}")
    images = getattr(splits, split)
    if not len(images):
        raise UserError(f"{source} has no {split} images")
    model, processor = load_classifier(folder)
    _check_classes(model, splits.classes, source)
    data = KeyedImages(images, EvaluationTransform(processor), model.config.num_channels)
    loss, right = 0.0, 0
    for start in range(0, len(data), batch_size):
        items = [data[i] for i in range(start, min(start + batch_size, len(data)))]
        labels = torch.tensor([item["labels"] for item in items], device=model.device)
        logits = model(pixel_values=torch.stack([item["pixel_values"] for item in items]).to(model.device)).logits
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        right += int((logits.argmax(dim=-1) == labels).sum())
    return {"split": split, "images": len(data), "accuracy": right / len(data), "loss": loss / len(data)}


def _check_classes(model: PreTrainedModel, classes: list[str], source: str) -> None:
    known = class_names(model)
    if len(known) != len(classes):
        raise UserError(f"the model has {len(known)} classes, {source} has {len(classes)}")
    generic = all(name.startswith("LABEL_") for name in known)
    if not generic and known != classes:
        pairs = ((ours, theirs) for ours, theirs in zip(known, classes, strict=True) if ours != theirs)
        ours, theirs = next(pairs)
        raise UserError(f"the classes of {source} are not the model's: {theirs!r} where the model has {ours!r}")


__all__ = ["evaluate_classifier"]
