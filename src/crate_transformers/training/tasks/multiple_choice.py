"""Multiple choice: the model finds the answer that belongs to a question."""

from typing import Any

from torch import Tensor
from transformers import AutoModelForMultipleChoice, EvalPrediction

from .base import predictions_and_labels
from .stand_in import DataFacts
from .text_head import TextHead


class MultipleChoice(TextHead):
    """The model reads the question before each answer, as a sequence of its own."""

    auto_class = AutoModelForMultipleChoice
    metric = "eval_accuracy"
    has_classes = False

    @classmethod
    def blank_rows(cls, rows: int, facts: DataFacts) -> tuple[int, ...]:
        return rows, facts.known("classes", "--classes (the choices of a question)")

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        questions = [row["question"]] * len(row["choices"])
        encoded = self.reader(questions, row["choices"], truncation=True, max_length=self.limit)
        return {**encoded, "labels": row["label"]}

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        predicted, truth = predictions_and_labels(evaluation)
        return {"accuracy": float((predicted == truth).mean())}

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        inputs = super().sample_inputs(count)
        return {
            name: value.flatten(0, 1) for name, value in inputs.items()
        }  # the backbone sees each answer as a sequence

    def flop_inputs(self) -> dict[str, Tensor]:
        return {name: value[None] for name, value in self.sample_inputs(1).items()}


__all__ = ["MultipleChoice"]
