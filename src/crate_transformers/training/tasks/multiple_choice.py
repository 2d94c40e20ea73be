"""Multiple choice: which of some answers belongs to a question."""

from typing import Any

from torch import Tensor
from transformers import AutoModelForMultipleChoice

from .text_head import TextHead


class MultipleChoice(TextHead):
    """Each answer is read after the question, as a sequence of its own."""

    auto_class = AutoModelForMultipleChoice
    metric = "eval_accuracy"

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        questions = [row["question"]] * len(row["choices"])
        encoded = self.reader(questions, row["choices"], truncation=True, max_length=self.limit)
        return {**encoded, "labels": row["label"]}

    def compute_metrics(self, evaluation: Any) -> dict[str, float]:
        return {"accuracy": float((evaluation.predictions == evaluation.label_ids).mean())}

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        inputs = super().sample_inputs(count)
        return {name: value.flatten(0, 1) for name, value in inputs.items()}  # the backbone sees so many sequences

    def flop_inputs(self) -> dict[str, Tensor]:
        return {name: value[None] for name, value in self.sample_inputs(1).items()}


__all__ = ["MultipleChoice"]
