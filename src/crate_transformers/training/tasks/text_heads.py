"""Fine-tuning of text models: sequence, token and multiple-choice classification, span extraction."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerBase,
)

from ...data.labelled_text import EncodedRows, align_tags, load_labelled_text
from ...data.reading import as_text
from ...data.text_parts import TextPart
from ...data.tokens import train_tokenizer
from ...errors import UserError
from ...evaluation.language_models import load_tokenizer
from ...evaluation.text_metrics import entity_f1, exact_match, matthews, token_f1
from ...recipes.schema import Recipe
from ...recipes.tasks.text_heads import TextHeadData
from ..build import build_model
from ..report import Section
from .base import Task

_AUTO = {
    "sequence-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "multiple-choice": AutoModelForMultipleChoice,
    "question-answering": AutoModelForQuestionAnswering,
}


class TextHead(Task):
    """One of the four tasks, on a pretrained model (`model.from`) or from scratch with a tokenizer of its own."""

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        data = recipe.data
        assert isinstance(data, TextHeadData)
        self.data = data
        self.rows = load_labelled_text(
            data.source,
            recipe.task,
            recipe.seed,
            data.validation_fraction,
            data.test_fraction,
            text_column=data.text_column,
            second_text_column=data.second_text_column,
            label_column=data.label_column,
        )
        self.notes.extend(self.rows.notes)
        self.tokenizer = self._tokenizer()
        self.reader = as_text(self.tokenizer)
        self.model = build_model(recipe, _AUTO[recipe.task], self._fields(), self.notes)
        self._check_classes()
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        config = self.model.config
        limit = getattr(config, "max_sequence_length", None) or config.max_position_embeddings
        self.limit = min(data.context_length or limit, limit)
        encode = self._encoder()
        parts = {name: EncodedRows(rows, encode) for name, rows in self.rows.parts.items()}
        self.train_data = parts["train"]
        self.validation_data, self.test_data = parts.get("validation"), parts.get("test")
        self.shown = parts.get("test") or parts.get("validation") or parts["train"]
        self.collator = self.evaluation_collator = _PadBatch(self.tokenizer, config)
        if recipe.task == "question-answering":
            self.label_names = ("start_positions", "end_positions")
            self.metric, self.greater_is_better = "eval_f1", True
        elif self._is_regression:
            self.metric, self.greater_is_better = "eval_loss", False
        else:
            self.metric = "eval_f1" if recipe.task == "token-classification" else "eval_accuracy"
            self.greater_is_better = True

    # -- model and tokenizer ------------------------------------------------------------------------------------------

    @property
    def _is_regression(self) -> bool:
        return self.recipe.task == "sequence-classification" and self.rows.labels is None

    @property
    def _is_multi_label(self) -> bool:
        return self.recipe.task == "sequence-classification" and isinstance(self.rows.parts["train"][0]["label"], list)

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        source = self.data.tokenizer or self.recipe.model.get("from")
        if source is not None:
            return load_tokenizer(source)
        part = TextPart.of([_text_of(row) for row in self.rows.parts["train"]])
        is_decoder = self.recipe.family.name == "gpt2" or "gpt2" in str(self.recipe.model.get("size"))
        return train_tokenizer(part, self.data.vocab_size, is_decoder, self.data.context_length or 510)

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if not self.recipe.model.get("from"):
            fields["vocab_size"] = len(self.tokenizer)
            fields.update({f"{n}_token_id": getattr(self.tokenizer, f"{n}_token_id") for n in ("bos", "eos", "pad")})
        if self._is_regression:
            return {**fields, "num_labels": 1, "problem_type": "regression"}
        if self.rows.labels is not None:
            fields["id2label"] = dict(enumerate(self.rows.labels))
            fields["label2id"] = {name: index for index, name in enumerate(self.rows.labels)}
        if self._is_multi_label:
            fields["problem_type"] = "multi_label_classification"
        return fields

    def _check_classes(self) -> None:
        if self.rows.labels is not None and self.model.config.num_labels != len(self.rows.labels):
            raise UserError(
                f"model.num_labels is {self.model.config.num_labels}, the data have {len(self.rows.labels)} classes"
            )
        if len(self.tokenizer) > self.model.config.vocab_size:
            raise UserError(
                f"the tokenizer has {len(self.tokenizer)} tokens, the model {self.model.config.vocab_size}: "
                "they do not fit"
            )

    # -- rows to inputs -----------------------------------------------------------------------------------------------

    def _encoder(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        task = self.recipe.task
        if task in ("token-classification", "question-answering") and not self.tokenizer.is_fast:
            raise UserError(
                f"{task} needs a fast tokenizer, which knows where tokens lie; got a slow one: "
                f"{type(self.tokenizer).__name__}"
            )
        return {
            "sequence-classification": self._encode_sequence,
            "token-classification": lambda row: align_tags(self.reader, row["tokens"], row["tags"], self.limit),
            "multiple-choice": self._encode_choices,
            "question-answering": self._encode_question,
        }[task]

    def _encode_sequence(self, row: dict[str, Any]) -> dict[str, Any]:
        encoded = self.reader(row["text"], row["second"], truncation=True, max_length=self.limit)
        label = row["label"]
        if self._is_multi_label:
            label = [float(index in label) for index in range(len(self.rows.labels or []))]
        return {**encoded, "labels": label}

    def _encode_choices(self, row: dict[str, Any]) -> dict[str, Any]:
        questions = [row["question"]] * len(row["choices"])
        encoded = self.reader(questions, row["choices"], truncation=True, max_length=self.limit)
        return {**encoded, "labels": row["label"]}

    def _encode_question(self, row: dict[str, Any]) -> dict[str, Any]:
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

    def count_items(self, batch: Any) -> int:
        if self.recipe.task == "token-classification":
            return int((batch["labels"] != -100).sum())
        return super().count_items(batch)

    # -- metrics ------------------------------------------------------------------------------------------------------

    def reduce_outputs(self, logits: Any, labels: Any) -> Any:
        if self.recipe.task == "question-answering":
            start, end = logits[:2]
            return torch.stack([start.argmax(dim=-1), end.argmax(dim=-1)], dim=-1)
        logits = logits[0] if isinstance(logits, tuple) else logits
        if self._is_regression:
            return logits.squeeze(-1)
        return (logits > 0).long() if self._is_multi_label else logits.argmax(dim=-1)

    def compute_metrics(self, evaluation: Any) -> dict[str, float]:
        predicted, truth = evaluation.predictions, evaluation.label_ids
        if self.recipe.task == "question-answering":
            spans = np.stack(truth, axis=-1)
            return {"exact_match": exact_match(predicted, spans), "f1": token_f1(predicted, spans)}
        if self.recipe.task == "token-classification":
            real = truth != -100
            names = self.rows.labels or []
            accuracy = float((predicted == truth)[real].mean())
            return {"accuracy": accuracy, "f1": entity_f1(predicted, truth, names)}
        if self._is_regression:
            return {"mean_squared_error": float(np.mean((predicted - truth) ** 2))}
        metrics = {"accuracy": float((predicted == truth).mean())}
        if self.recipe.task == "sequence-classification":
            from sklearn.metrics import f1_score  # heavy

            metrics["f1"] = float(f1_score(truth, predicted, average="macro", zero_division=0))
            if not self._is_multi_label:
                metrics["matthews"] = matthews(predicted, truth)
        return metrics

    def save_beside(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        shown = self.shown
        batch = self.collator([shown[i] for i in range(min(count, 32, len(shown)))])
        inputs = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask")}
        if self.recipe.task == "multiple-choice":  # the backbone sees the choices as so many sequences
            inputs = {name: value.flatten(0, 1) for name, value in inputs.items()}
        return inputs

    def flop_inputs(self) -> dict[str, Tensor]:
        inputs = self.sample_inputs(1)
        is_choice = self.recipe.task == "multiple-choice"
        return {name: value[None] for name, value in inputs.items()} if is_choice else inputs

    def report(self, model: nn.Module, history: list[dict[str, Any]]) -> list[Section]:
        counts: Counter[str] = Counter()
        if self.rows.labels and self.recipe.task == "sequence-classification" and not self._is_multi_label:
            counts.update(self.rows.labels[row["label"]] for row in self.rows.parts["train"])
        rows = [{"part": name, "rows": len(part)} for name, part in self.rows.parts.items()]
        return [
            Section("Data", table=rows, details=[f"{name}: {count} training rows" for name, count in counts.items()])
        ]


class _PadBatch:
    """Items of any of the four tasks to padded tensors."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: Any):
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (config.pad_token_id or 0)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        has_choices = isinstance(items[0]["input_ids"][0], list)
        flat = [ids for item in items for ids in (item["input_ids"] if has_choices else [item["input_ids"]])]
        width = max(map(len, flat))
        input_ids = torch.full((len(flat), width), self.pad)
        attention_mask = torch.zeros(len(flat), width, dtype=torch.long)
        for row, ids in enumerate(flat):
            input_ids[row, : len(ids)] = torch.tensor(ids)
            attention_mask[row, : len(ids)] = 1
        if has_choices:
            shape = (len(items), -1, width)
            input_ids, attention_mask = input_ids.view(shape), attention_mask.view(shape)
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        for name in ("labels", "start_positions", "end_positions"):
            if name in items[0]:
                batch[name] = self._labels([item[name] for item in items], width)
        return batch

    @staticmethod
    def _labels(values: list[Any], width: int) -> Tensor:
        if isinstance(values[0], list) and not isinstance(values[0][0], float):  # one a token
            return torch.tensor([value + [-100] * (width - len(value)) for value in values])
        return torch.tensor(values)


def _text_of(row: dict[str, Any]) -> str:
    parts = [value for value in row.values() if isinstance(value, str)]
    for value in row.values():
        if isinstance(value, list):
            parts += [word for word in value if isinstance(word, str)]
    return " ".join(parts)


__all__ = ["TextHead"]
