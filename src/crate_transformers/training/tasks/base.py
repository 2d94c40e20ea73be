"""The face that every task shows to a run. What a recipe may say to the task is declared in recipes/tasks/."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainerCallback

from ...recipes.schema import Recipe
from ...report.sections import Section

CACHE = "cache"  # the folder of a run that holds what can be made again


class Task(ABC):
    """Data, model and metrics of one recipe.

    Attributes:
        recipe, output: what is run, and the folder of the run.
        model: what is trained. train_data, validation_data, test_data: data sets (None where there is no such part).
        collator, evaluation_collator: items to a batch, in training and in evaluation.
        label_names: the inputs that a loss needs. metric, greater_is_better: of the validation part, picks the best
            model. keyed: whether train_data takes keys (epoch, sample).
        notes: lines that the user should see before the run.
    """

    label_names: tuple[str, ...] = ("labels",)
    metric: str = "eval_loss"
    greater_is_better: bool = False
    keyed: bool = True

    def __init__(self, recipe: Recipe, output: Path):
        self.recipe, self.output = recipe, output
        self.notes: list[str] = []

    model: PreTrainedModel
    train_data: Dataset
    validation_data: Dataset | None
    test_data: Dataset | None
    collator: Any
    evaluation_collator: Any

    def compute_metrics(self, evaluation: Any) -> dict[str, float]:
        """Metrics beside the loss, of transformers' EvalPrediction."""
        return {}

    def reduce_outputs(self, logits: Any, labels: Any) -> Any:
        """What is kept of a batch's outputs for `compute_metrics`, e.g. the best class instead of all logits."""
        return logits[0] if isinstance(logits, tuple) else logits

    def count_items(self, batch: Any) -> int:
        """How many terms the mean is over that is the loss of a batch: its rows, where each has one."""
        return len(next(iter(batch.values())))

    def callbacks(self) -> list[TrainerCallback]:
        """Callbacks of this task alone."""
        return []

    def finished_model(self) -> PreTrainedModel:
        """What is saved at the end."""
        return self.model

    def complete(self, metrics: dict[str, float], part: str) -> dict[str, float]:
        """Metrics of one part ("validation" or "test") for metrics.json; may add some (perplexity of a loss)."""
        return metrics

    def verdict(self, metrics: dict[str, Any]) -> list[str]:
        """Lines that the user should see after the run, of everything in metrics.json."""
        return []

    @abstractmethod
    def save_beside(self, folder: Path) -> None:
        """Save what belongs to the model: image processor, tokenizer."""

    @abstractmethod
    def sample_inputs(self, count: int) -> Any:
        """Inputs of the backbone, for measures: a few samples of the test (or validation, or training) part."""

    def flop_inputs(self) -> dict[str, Any]:
        """Inputs of the model for one sample."""
        return self.sample_inputs(1)

    def report(self, model: nn.Module, history: list[dict[str, Any]]) -> list[Section]:
        """Pages of the report that only this task can draw."""
        return []


__all__ = ["CACHE", "Task"]
