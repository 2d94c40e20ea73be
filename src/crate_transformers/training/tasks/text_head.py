"""What the four tasks that fine-tune a text model share: rows, tokenizer, model, batches."""

import math
from abc import abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...data.text.labelled import EncodedRows, LabelledText, load_labelled_text
from ...data.text.parts import TextPart
from ...data.text.reading import as_text
from ...data.text.tokens import train_tokenizer
from ...errors import UserError
from ...evaluation.language_models import load_tokenizer
from ...recipes.schema import Recipe
from ...recipes.tasks.text_heads import TextHeadData
from ...report.sections import Section
from ..build import AutoClass, build_model, model_without_weights
from .base import Outputs, Task, first_output
from .stand_in import DataFacts, StandIn, blank_numbers
from .text_view import text_view_sections


def labelled_rows(recipe: Recipe, data: TextHeadData) -> LabelledText:
    """The rows of the three parts of a recipe's data.

    Raises:
        UserError: data that cannot be read, or do not fit the task.
    """
    return load_labelled_text(
        data.source,
        recipe.task,
        recipe.seed,
        data.validation_fraction,
        data.test_fraction,
        text_column=data.text_column,
        second_text_column=data.second_text_column,
        label_column=data.label_column,
    )


class TextHead(Task):
    """A head on a pretrained model (`model.from`), or on a new model with a tokenizer that is trained on the data.

    Attributes:
        auto_class: transformers' Auto class of the task.
        needs_places: whether the labels are places in the text, which only a fast tokenizer maps to tokens.
        has_classes: whether the head has an output for each class of the data.
        rows: the data, as `load_labelled_text` reads them.
        reader: the tokenizer, which takes every character as text. limit: tokens of a sample, at most.
        shown: the samples that measures use.
    """

    auto_class: AutoClass
    model: PreTrainedModel
    needs_places: bool = False
    has_classes: bool = True
    greater_is_better = True

    def __init__(self, recipe: Recipe, output: Path):
        super().__init__(recipe, output)
        data = recipe.data
        assert isinstance(data, TextHeadData)
        self.data = data
        self.rows = labelled_rows(recipe, data)
        self.notes.extend(self.rows.notes)
        self.tokenizer = self._tokenizer()
        self.reader = as_text(self.tokenizer)
        self.model = build_model(
            recipe, self.auto_class, {**self._fields_of_tokenizer(), **self.fields_of_labels()}, self.notes
        )
        self._check_classes()
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        config = self.model.config
        self.limit = _limit(data, config)
        self._check_tokenizer()
        parts = {name: EncodedRows(rows, self.encode) for name, rows in self.rows.parts.items()}
        self.train_data = parts["train"]
        self.validation_data, self.test_data = parts.get("validation"), parts.get("test")
        self.shown = parts.get("test") or parts.get("validation") or parts["train"]
        self.collator = self.evaluation_collator = _PadBatch(self.tokenizer, config)

    @classmethod
    def stand_in(cls, recipe: Recipe, facts: DataFacts) -> StandIn:
        data = recipe.data
        assert isinstance(data, TextHeadData)
        is_new = not recipe.model.get("from")
        fields = {"vocab_size": facts.known("vocabulary", "--vocabulary")} if is_new else {}
        if cls.has_classes:
            fields["num_labels"] = facts.known("classes", "--classes")
        model = model_without_weights(recipe, cls.auto_class, fields)
        length = _limit(data, model.config)

        def batch(rows: int) -> dict[str, Tensor]:  # texts of full length need no mask of their padding
            tokens = {"input_ids": blank_numbers(*cls.blank_rows(rows, facts), length)}
            return {**tokens, **cls.blank_labels(rows, length)}

        return StandIn(model, batch, "tokens", length * math.prod(cls.blank_rows(1, facts)))

    # -- what each task decides ---------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """Turn a row of the data into the inputs of the model, labels included."""

    @classmethod
    def blank_rows(cls, rows: int, facts: DataFacts) -> tuple[int, ...]:
        """The shape of a batch of texts before their tokens."""
        return (rows,)

    @classmethod
    def blank_labels(cls, rows: int, length: int) -> dict[str, Tensor]:
        """The labels of a batch, without numbers; length: tokens of a row."""
        return {"labels": blank_numbers(rows)}

    def fields_of_labels(self) -> dict[str, Any]:
        """The fields of the model's configuration that the labels decide."""
        if self.rows.labels is None:
            return {}
        return {
            "id2label": dict(enumerate(self.rows.labels)),
            "label2id": {name: index for index, name in enumerate(self.rows.labels)},
        }

    def rows_by_label(self) -> Counter[str]:
        """The number of training rows of each label, for the report; empty where a row has more than a label."""
        return Counter()

    # -- model and tokenizer ------------------------------------------------------------------------------------------

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        source = self.data.tokenizer or self.recipe.model.get("from")
        if source is not None:
            return load_tokenizer(source)
        part = TextPart.of([_text_of(row) for row in self.rows.parts["train"]])
        is_decoder = self.recipe.family.name == "gpt2" or "gpt2" in str(self.recipe.model.get("size"))
        return train_tokenizer(part, self.data.vocab_size, is_decoder, self.data.context_length or 510)

    def _fields_of_tokenizer(self) -> dict[str, Any]:
        """The fields of a new model's configuration that the tokenizer decides."""
        if self.recipe.model.get("from"):
            return {}
        names = ("bos", "eos", "pad")
        return {
            "vocab_size": len(self.tokenizer),
            **{f"{name}_token_id": getattr(self.tokenizer, f"{name}_token_id") for name in names},
        }

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

    def _check_tokenizer(self) -> None:
        if self.needs_places and not self.tokenizer.is_fast:
            raise UserError(
                f"{self.recipe.task} needs a fast tokenizer, which knows where tokens lie; got a slow one: "
                f"{type(self.tokenizer).__name__}"
            )

    # -- metrics ------------------------------------------------------------------------------------------------------

    def reduce_outputs(self, logits: Outputs, labels: Outputs) -> Tensor:
        return first_output(logits).argmax(dim=-1)

    def save_beside(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)

    def sample_inputs(self, count: int) -> dict[str, Tensor]:
        shown = self.shown
        batch = self.collator([shown[i] for i in range(min(count, 32, len(shown)))])
        return {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask")}

    def report(self, model: PreTrainedModel, history: list[dict[str, Any]]) -> list[Section]:
        rows = [{"part": name, "rows": len(part)} for name, part in self.rows.parts.items()]
        counts = self.rows_by_label()
        return [
            Section("Data", table=rows, details=[f"{name}: {count} training rows" for name, count in counts.items()]),
            *text_view_sections(model, self.sample_inputs(1), self.tokenizer),
        ]


class _PadBatch:
    """Makes padded tensors of the items of any of the four tasks.

    A batch has input_ids and attention_mask, (B, T), or (B, choices, T) for multiple choice, and the labels.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig):
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


def _limit(data: TextHeadData, config: PreTrainedConfig) -> int:
    """Tokens of a sample, at most."""
    limit = getattr(config, "max_sequence_length", None) or config.max_position_embeddings
    return int(min(data.context_length or limit, limit))


def _text_of(row: dict[str, Any]) -> str:
    parts = [value for value in row.values() if isinstance(value, str)]
    for value in row.values():
        if isinstance(value, list):
            parts += [word for word in value if isinstance(word, str)]
    return " ".join(parts)


__all__ = ["TextHead", "labelled_rows"]
