"""Image classification: the model finds the class of a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageClassification, EvalPrediction, PreTrainedModel

from ...data import ImageCollator, KeyedImages
from ...errors import UserError
from ...recipes.schema import Recipe
from ...recipes.tasks.image_classification import ImageClassificationTrain
from ...report.confusion import confusion_matrix_figure
from ...report.pictures import picture_grid_figure
from ...report.sections import Section
from ..build import build_model
from .base import Outputs, first_output, predictions_and_labels
from .image_task import ImageTask, spread


class ImageClassification(ImageTask):
    """The task of CRATE's vision models and of ViT.

    Attributes:
        classes: the name of each class, in the order of their numbers.
    """

    metric = "eval_accuracy"
    greater_is_better = True
    model: PreTrainedModel

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        train = recipe.train
        assert isinstance(train, ImageClassificationTrain)
        self.classes = self.splits.classes
        labels = {
            "id2label": dict(enumerate(self.classes)),
            "label2id": {name: label for label, name in enumerate(self.classes)},
        }
        self.model = build_model(recipe, AutoModelForImageClassification, labels, self.notes)
        config = self.model.config
        if config.num_labels != len(self.classes):
            raise UserError(f"model.num_labels is {config.num_labels}, the data have {len(self.classes)} classes")
        self.prepare(config)
        self.train_data = self.augmented()
        self.validation_data, self.test_data = (
            self.plain(part) if len(part) else None for part in (self.splits.validation, self.splits.test)
        )
        self.collator = ImageCollator(len(self.classes), train.mixup_alpha, train.cutmix_alpha, recipe.seed)
        self.evaluation_collator = ImageCollator()

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Tensor:
        return first_output(logits).argmax(dim=-1)

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        predicted, truth = predictions_and_labels(evaluation)
        return {"accuracy": float((predicted == truth).mean())}

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        shown = self.shown()
        items = [shown[i] for i in spread(len(shown), count)]
        return {"pixel_values": torch.stack([item["pixel_values"] for item in items])}

    @torch.no_grad()
    def report(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> list[Section]:
        shown = self.shown()
        truth, predicted, score = _predict(model, shown)
        order = np.random.default_rng(0).permutation(len(truth))[:24]
        pictures = [shown.images.read(int(i), self.num_channels) for i in order]
        captions = [
            f"{self.classes[predicted[i]]} {score[i]:.0%}"
            + ("" if predicted[i] == truth[i] else f" (is {self.classes[truth[i]]})")
            for i in order
        ]
        wrong = [bool(predicted[i] != truth[i]) for i in order]
        return [
            Section(
                "Confusion matrix",
                f"Rows: the true class; columns: the predicted one. {len(truth):,} held-out images, each counted once.",
                [confusion_matrix_figure(truth, predicted, self.classes)],
            ),
            Section("Some predictions", "Wrong ones are framed.", [picture_grid_figure(pictures, captions, wrong)]),
        ]


@torch.no_grad()
def _predict(model: PreTrainedModel, images: KeyedImages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true class, predicted class, probability of the predicted class) of every picture."""
    predicted, scores = [], []
    device = next(model.parameters()).device
    for start in range(0, len(images), 256):
        items = [images[i] for i in range(start, min(start + 256, len(images)))]
        pixel_values = torch.stack([item["pixel_values"] for item in items]).to(device)
        best = model(pixel_values=pixel_values).logits.float().softmax(dim=-1).max(dim=-1)
        predicted.append(best.indices.cpu())
        scores.append(best.values.cpu())
    return images.images.labels, torch.cat(predicted).numpy(), torch.cat(scores).numpy()


__all__ = ["ImageClassification"]
