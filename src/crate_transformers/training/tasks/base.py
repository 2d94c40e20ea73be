"""What every task offers to a run. recipes/tasks/ declares what a recipe may say to the task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, PreTrainedModel, TrainerCallback

from ...recipes.schema import Recipe
from ...report.sections import Section
from ..adapters import plain_model
from .stand_in import DataFacts, StandIn

CACHE = "cache"  # the folder of a run that holds what can be made again

Collator = Callable[[list[Any]], dict[str, Tensor]]  # items of a data set -> a batch
Outputs = Tensor | tuple[Tensor, ...]  # of a model, or its labels; the Trainer passes a tuple where there are several


def first_output(outputs: Outputs) -> Tensor:
    """The first of a model's outputs, which are its logits."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def predictions_and_labels(evaluation: EvalPrediction) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of a task that has one of each a sample."""
    predictions, labels = evaluation.predictions, evaluation.label_ids
    assert isinstance(predictions, np.ndarray)
    assert isinstance(labels, np.ndarray)
    return predictions, labels


class Task(ABC):
    """Data, model and metrics of one recipe.

    Attributes:
        recipe: what the user asked for.
        output: the folder of the run.
        model: the model that the run trains, with its adapters where it has any.
        trained_parameters: how many parameters a run with adapters trains; None where it trains all.
        whole_copy: gives a copy of the model with all its weights, where processes share them; None where it has them.
        train_data, validation_data, test_data: data sets; None where there is no such part.
        collator, evaluation_collator: make a batch of items, in training and in evaluation.
        label_names: the inputs that the loss needs.
        metric: the metric of the validation part that picks the best model.
        greater_is_better: whether the best model has the highest metric (else the lowest).
        keyed: whether train_data takes keys (epoch, sample).
        repetitions: how often an epoch has a sample.
        ends: (shards,) int64, where the training samples of each shard end; None where they are in no shards.
        notes: lines that the user should see before the run.
    """

    label_names: tuple[str, ...] = ("labels",)
    metric: str = "eval_loss"
    greater_is_better: bool = False
    keyed: bool = True
    repetitions: int = 1
    ends: np.ndarray | None = None

    def __init__(self, recipe: Recipe, output: Path):
        self.recipe, self.output = recipe, output
        self.notes: list[str] = []

    model: nn.Module
    trained_parameters: int | None = None
    whole_copy: Callable[[], nn.Module] | None = None
    train_data: Dataset
    validation_data: Dataset | None
    test_data: Dataset | None
    collator: Collator
    evaluation_collator: Collator

    def whole_model(self) -> nn.Module:
        """The model with all its weights. Where processes share them, all of them call it, and it is a copy."""
        return self.whole_copy() if self.whole_copy is not None else self.model

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        """The metrics beside the loss, computed from what `reduce_outputs` kept and from the labels."""
        return {}

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Outputs:
        """The part of a batch's outputs that `compute_metrics` needs, e.g. the best class instead of all logits."""
        return first_output(logits)

    def count_items(self, batch: Mapping[str, Tensor]) -> int:
        """The number of terms that the loss of a batch is the mean of: its rows, unless the task counts otherwise."""
        return len(next(iter(batch.values())))

    def callbacks(self) -> list[TrainerCallback]:
        """The callbacks that only this task needs."""
        return []

    def finished_model(self) -> PreTrainedModel:
        """The model that the run saves at its end."""
        return plain_model(self.model)

    def part_that_is_kept(self, trained: nn.Module) -> PreTrainedModel:
        """The part of the trained module that is the finished model: all of it, unless the task trains more."""
        return cast(PreTrainedModel, trained)

    def complete(self, metrics: dict[str, float], part: str) -> dict[str, float]:
        """The metrics of one part ("validation" or "test") as metrics.json holds them.

        A task may add metrics that follow from the given ones, as a perplexity follows from a loss.
        """
        return metrics

    def verdict(self, metrics: dict[str, Any]) -> list[str]:
        """Lines about everything in metrics.json that the user should see after the run."""
        return []

    @classmethod
    @abstractmethod
    def stand_in(cls, recipe: Recipe, facts: DataFacts) -> StandIn:
        """The model and the batches that a run of the recipe would have, as shapes: no data are opened.

        Raises:
            UserError: a fact is needed and unknown, or the model does not fit.
        """

    @abstractmethod
    def save_beside(self, folder: Path) -> None:
        """Save the image processor or the tokenizer of the model into the model's folder."""

    @abstractmethod
    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        """Inputs of the backbone: at most `count` samples of the test (or validation, or training) part."""

    def flop_inputs(self) -> dict[str, Tensor]:
        """Inputs of the whole model for one sample, for which its operations are counted."""
        return self.sample_inputs(1)

    def report(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> list[Section]:
        """Sections of the report that only this task can draw.

        Args:
            model: the finished model. history: the Trainer's log, one entry a dictionary.
        """
        return []


__all__ = ["CACHE", "Collator", "Outputs", "Task", "first_output", "predictions_and_labels"]
