"""Sequence classification: the model gives a text, or a pair of texts, a class, several classes or a number."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AutoModelForSequenceClassification, EvalPrediction

from ...evaluation.text_metrics import macro_f1, matthews
from ...recipes.schema import Recipe
from .base import Outputs, first_output, predictions_and_labels
from .text_head import TextHead


class SequenceClassification(TextHead):
    """The labels decide what the model gives.

    Names are classes, lists of names are several classes at once, and numbers are a regression.
    """

    auto_class = AutoModelForSequenceClassification

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        self.metric = "eval_loss" if self._is_regression else "eval_accuracy"
        self.greater_is_better = not self._is_regression

    @property
    def _is_regression(self) -> bool:
        return self.rows.labels is None

    @property
    def _is_multi_label(self) -> bool:
        return isinstance(self.rows.parts["train"][0]["label"], list)

    def fields_of_labels(self) -> dict[str, Any]:
        if self._is_regression:
            return {"num_labels": 1, "problem_type": "regression"}
        several = {"problem_type": "multi_label_classification"} if self._is_multi_label else {}
        return {**super().fields_of_labels(), **several}

    def rows_by_label(self) -> Counter[str]:
        if not self.rows.labels or self._is_multi_label:
            return Counter()
        return Counter(self.rows.labels[row["label"]] for row in self.rows.parts["train"])

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        encoded = self.reader(row["text"], row["second"], truncation=True, max_length=self.limit)
        label = row["label"]
        if self._is_multi_label:
            label = [float(index in label) for index in range(len(self.rows.labels or []))]
        return {**encoded, "labels": label}

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Tensor:
        logits = first_output(logits)
        if self._is_regression:
            return logits.squeeze(-1)
        return (logits > 0).long() if self._is_multi_label else logits.argmax(dim=-1)

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        predicted, truth = predictions_and_labels(evaluation)
        if self._is_regression:
            return {"mean_squared_error": float(np.mean((predicted - truth) ** 2))}
        metrics = {"accuracy": float((predicted == truth).mean()), "f1": macro_f1(predicted, truth)}
        if not self._is_multi_label:
            metrics["matthews"] = matthews(predicted, truth)
        return metrics


__all__ = ["SequenceClassification"]
