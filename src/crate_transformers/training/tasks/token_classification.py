"""Token classification: a tag for every word of a text."""

from typing import Any

from transformers import AutoModelForTokenClassification

from ...data.labelled_text import align_tags
from ...evaluation.text_metrics import entity_f1
from .text_head import TextHead


class TokenClassification(TextHead):
    """A word's first token carries its tag; all others, and padding, are -100 and count for nothing."""

    auto_class = AutoModelForTokenClassification
    needs_places = True
    metric = "eval_f1"

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        return align_tags(self.reader, row["tokens"], row["tags"], self.limit)

    def count_items(self, batch: Any) -> int:
        return int((batch["labels"] != -100).sum())

    def compute_metrics(self, evaluation: Any) -> dict[str, float]:
        predicted, truth = evaluation.predictions, evaluation.label_ids
        real = truth != -100
        accuracy = float((predicted == truth)[real].mean())
        return {"accuracy": accuracy, "f1": entity_f1(predicted, truth, self.rows.labels or [])}


__all__ = ["TokenClassification"]
