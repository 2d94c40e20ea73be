"""Image classification: the model finds the class of a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageClassification, EvalPrediction, PreTrainedModel

from ...data import ImageCollator, KeyedImages, over_classes
from ...errors import UserError
from ...recipes.schema import Recipe
from ...recipes.tasks.image_classification import ImageClassificationTrain
from ...report.confusion import confusion_heat
from ...report.gallery import gallery_html
from ...report.heats import heat_html
from ...report.sections import Section
from ..build import build_model, model_without_weights
from .base import Outputs, first_output, predictions_and_labels
from .image_task import NUM_LOOKED_INTO, ImageTask, blank_images, spread
from .stand_in import DataFacts, StandIn, blank, blank_numbers

_ERRORS, _PICTURES = 16, 24  # wrong pictures that a report shows, at most; pictures in all


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
        self.collator = ImageCollator(
            len(self.classes), train.mixup_alpha, train.cutmix_alpha, recipe.seed, train.mixup_mode
        )
        self.evaluation_collator = ImageCollator()
        if train.mixup_mode == "batch":
            self.notes.append(
                "train.mixup_mode = batch: which pictures are mixed follows from the batch of a process, so a resume "
                "with another number of processes, or another train.max_per_device_batch_size, mixes them otherwise"
            )

    @classmethod
    def stand_in(cls, recipe: Recipe, facts: DataFacts) -> StandIn:
        train = recipe.train
        assert isinstance(train, ImageClassificationTrain)
        classes = facts.known("classes", "--classes")
        model = model_without_weights(recipe, AutoModelForImageClassification, {"num_labels": classes})
        mixes = train.mixup_alpha > 0 or train.cutmix_alpha > 0

        def batch(rows: int) -> dict[str, Tensor]:
            labels = blank(rows, classes) if mixes else blank_numbers(rows)
            return {"pixel_values": blank_images(model.config, rows), "labels": labels}

        return StandIn(model, batch)

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
        found = _predict(model, shown)
        wrong, right = found.worst(), found.right()
        places = [*wrong[:_ERRORS], *right][:_PICTURES]
        looked_into = [*wrong[: NUM_LOOKED_INTO - 2], *right][:NUM_LOOKED_INTO]
        heat = confusion_heat(found.truth, found.predicted, self.classes)
        return [
            Section(
                "Confusion matrix",
                f"Rows: the true class; columns: the predicted one. {len(shown):,} held-out images, each counted once.",
                drawn=heat_html(heat),
            ),
            Section(
                "Some predictions",
                f"{len(wrong):,} of {len(shown):,} are wrong. First those of them with the highest loss, framed, the "
                f"worst first (at most {_ERRORS}); then right ones, taken over the classes.",
                drawn=gallery_html(
                    [shown.images.read(place, self.num_channels) for place in places],
                    [found.caption(place, self.classes) for place in places],
                    [bool(found.is_wrong[place]) for place in places],
                ),
            ),
            *self.view_sections(
                model,
                looked_into,
                [found.caption(place, self.classes) for place in looked_into],
                [bool(found.is_wrong[place]) for place in looked_into],
            ),
        ]


@dataclass(frozen=True, eq=False)
class _Predictions:
    """Of every picture (n,): true class, predicted class, its probability, and the loss, nats."""

    truth: np.ndarray
    predicted: np.ndarray
    score: np.ndarray
    loss: np.ndarray

    @property
    def is_wrong(self) -> np.ndarray:
        return self.predicted != self.truth

    def worst(self) -> list[int]:
        """Places of the wrong ones, the highest loss first."""
        order = np.argsort(-self.loss, kind="stable")
        return [int(place) for place in order if self.is_wrong[place]]

    def right(self) -> list[int]:
        """Places of some right ones, over the classes."""
        places = np.flatnonzero(~self.is_wrong)
        return [int(places[i]) for i in over_classes(self.truth[places], _PICTURES)]

    def caption(self, place: int, classes: list[str]) -> str:
        """What the picture is taken for, how sure that is, and what it is."""
        read = f"{classes[self.predicted[place]]} {self.score[place]:.0%}"
        if not self.is_wrong[place]:
            return read
        return f"{read} (is {classes[self.truth[place]]}, loss {self.loss[place]:.2f})"


@torch.no_grad()
def _predict(model: PreTrainedModel, images: KeyedImages) -> _Predictions:
    predicted, scores, losses = [], [], []
    device, truth = next(model.parameters()).device, images.images.labels
    for start in range(0, len(images), 256):
        places = range(start, min(start + 256, len(images)))
        pixel_values = torch.stack([images[place]["pixel_values"] for place in places]).to(device)
        shares = model(pixel_values=pixel_values).logits.float().log_softmax(dim=-1).cpu()  # (B, classes)
        best = shares.max(dim=-1)
        predicted.append(best.indices)
        scores.append(best.values.exp())
        losses.append(-shares[torch.arange(len(places)), torch.from_numpy(truth[places.start : places.stop])])
    return _Predictions(truth, *(torch.cat(parts).numpy() for parts in (predicted, scores, losses)))


__all__ = ["ImageClassification"]
