"""Token classification: the model gives every word of a text a tag."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import AutoModelForTokenClassification, EvalPrediction

from ...data.text.labelled import align_tags
from ...evaluation.text_metrics import entity_f1
from .base import predictions_and_labels
from .stand_in import blank_numbers
from .text_head import TextHead


class TokenClassification(TextHead):
    """The first token of a word has the word's tag. All other tokens have the label -100, which no metric counts."""

    auto_class = AutoModelForTokenClassification
    needs_places = True
    metric = "eval_f1"

    @classmethod
    def blank_labels(cls, rows: int, length: int) -> dict[str, Tensor]:
        return {"labels": blank_numbers(rows, length)}

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        return align_tags(self.reader, row["tokens"], row["tags"], self.limit)

    def count_items(self, batch: Mapping[str, Tensor]) -> int:
        return int((batch["labels"] != -100).sum())

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        predicted, truth = predictions_and_labels(evaluation)
        real = truth != -100
        accuracy = float((predicted == truth)[real].mean())
        return {"accuracy": accuracy, "f1": entity_f1(predicted, truth, self.rows.labels or [])}


__all__ = ["TokenClassification"]
