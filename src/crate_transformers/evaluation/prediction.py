"""Predictions of a trained image classifier for files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForImageClassification, PreTrainedModel

from ..data import EvaluationTransform, find_images, load_image
from ..errors import UserError
from ..models.inputs import open_processor
from .opening import open_model


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file.

    Attributes:
        label: the name of the likeliest class. score: its probability, in [0, 1].
        top: (label, score) of the likeliest classes, best first; the first is that one.
    """

    file: str
    label: str
    score: float
    top: tuple[tuple[str, float], ...] = ()


def load_classifier(folder: str | Path) -> tuple[PreTrainedModel, Any]:
    """Open the image classifier of a folder or hub name, as `open_model` does, and its image processor.

    Raises:
        ValueError: there is no image classifier, or it is damaged.
    """
    model = open_model(folder, kind=AutoModelForImageClassification)
    return model, open_processor(folder, model.config.num_channels)


def class_names(model: PreTrainedModel) -> list[str]:
    """The name of every class, in the order of the logits.

    Raises:
        ValueError: id2label of the configuration names other classes than the model has.
    """
    names = cast(dict[int, str], model.config.id2label)  # the config turns JSON's keys to int
    lost = next((i for i in range(len(names)) if i not in names), None)
    if lost is not None:
        numbers = ", ".join(map(str, sorted(names)[:8]))
        raise UserError(
            f"id2label in config.json must name the classes 0 to {len(names) - 1}: {lost} is not in it, but {numbers}"
        )
    return [str(names[i]) for i in range(len(names))]


@torch.no_grad()
def predict_images(
    folder: str | Path, places: Sequence[str | Path], batch_size: int = 32, top_k: int = 1
) -> Iterator[Prediction]:
    """Classify image files and folders of them in their order; each batch is read when it is asked for.

    Args:
        top_k: number of classes that are given of each picture.

    Raises:
        ValueError: the model or an image cannot be used; the message names it. The model has fewer classes than top_k.
    """
    files = find_images(places)
    model, processor = load_classifier(folder)
    names = class_names(model)
    if not 1 <= top_k <= len(names):
        raise UserError(f"--top-k {top_k} is more than there is: the model has {len(names)} classes")
    transform, channels = EvaluationTransform(processor), model.config.num_channels
    for start in range(0, len(files), batch_size):
        batch = files[start : start + batch_size]
        pixel_values = torch.stack([transform(load_image(file, channels)) for file in batch]).to(model.device)
        scores, labels = model(pixel_values=pixel_values).logits.float().softmax(dim=-1).topk(top_k)
        for file, own_scores, own_labels in zip(batch, scores.tolist(), labels.tolist(), strict=True):
            top = tuple((names[label], score) for label, score in zip(own_labels, own_scores, strict=True))
            yield Prediction(str(file), *top[0], top)


__all__ = ["Prediction", "class_names", "load_classifier", "predict_images"]
