"""Question answering: the model finds the span of a context that answers a question."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, EvalPrediction

from ...errors import UserError
from ...evaluation.text_metrics import exact_match, token_f1
from .base import Outputs
from .stand_in import blank_numbers
from .text_head import TextHead


class QuestionAnswering(TextHead):
    """The labels are the first and the last token of the answer; both are the first token where there is no answer."""

    auto_class = AutoModelForQuestionAnswering
    needs_places = True
    has_classes = False
    label_names = ("start_positions", "end_positions")
    metric = "eval_f1"

    @classmethod
    def blank_labels(cls, rows: int, length: int) -> dict[str, Tensor]:
        return {name: blank_numbers(rows) for name in cls.label_names}

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        asked = len(self.reader(row["question"], add_special_tokens=False)["input_ids"])
        if asked + self.reader.num_special_tokens_to_add(pair=True) >= self.limit:
            raise UserError(
                f"a question of {asked} tokens leaves no room for its context within {self.limit} tokens: "
                f"{row['question'][:60]!r}"
            )
        encoded = self.reader(
            row["question"],
            row["context"],
            truncation="only_second",
            max_length=self.limit,
            return_offsets_mapping=True,
        )
        offsets, sequence = encoded.pop("offset_mapping"), encoded.sequence_ids()
        start = end = 0  # the first token stands for "no answer here"
        if row["answers"]["text"]:
            first = row["answers"]["answer_start"][0]
            last = first + len(row["answers"]["text"][0])
            inside = [i for i, (a, b) in enumerate(offsets) if sequence[i] == 1 and a < last and b > first]
            if inside:
                start, end = inside[0], inside[-1]
        return {**encoded, "start_positions": start, "end_positions": end}

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Tensor:
        start, end = logits[:2]
        return torch.stack([start.argmax(dim=-1), end.argmax(dim=-1)], dim=-1)

    def compute_metrics(self, evaluation: EvalPrediction) -> dict[str, float]:
        predicted, spans = np.asarray(evaluation.predictions), np.stack(tuple(evaluation.label_ids), axis=-1)
        return {"exact_match": exact_match(predicted, spans), "f1": token_f1(predicted, spans)}


__all__ = ["QuestionAnswering"]
