"""Labelled text for the four fine-tuning tasks, from csv, json or a hub data set, tokenised once.

Columns, where the recipe names none, are found by the usual names:
    sequence-classification   text (or sentence, sentence1), a second text if there is one, label
    token-classification      tokens (a list of words), tags (or ner_tags, labels)
    multiple-choice           question (or context, sent1), choices (a list) or choice0..., label
    question-answering        question, context, answers {"text": [...], "answer_start": [...]}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from ..errors import UserError
from .datasets import Key
from .text import load_tables

_TEXT = ("text", "sentence", "sentence1", "premise", "question1", "review")
_SECOND = ("text2", "sentence2", "hypothesis", "question2")
_LABEL = ("label", "labels", "answer", "target")
_TAGS = ("tags", "ner_tags", "labels", "pos_tags")


@dataclass(frozen=True)
class LabelledText:
    """Rows of the three parts (lists of dictionaries) and the label names; None for a regression."""

    parts: dict[str, list[dict[str, Any]]]
    labels: list[str] | None


def load_labelled_text(
    source: str, task: str, seed: int, validation_fraction: float, test_fraction: float, **columns: str | None
) -> LabelledText:
    """Open a source and bring its rows to one form: text, second, label / tokens, tags / question, choices, label /
    question, context, answers.

    Args:
        source: csv:PATH, json:PATH or hub:NAME. columns: text_column, second_text_column, label_column.

    Raises:
        ValueError: no such source, missing columns, no rows, labels that are missing.
    """
    kind, _, argument = source.partition(":")
    if kind not in ("csv", "json", "hub") or not argument:
        raise UserError(f"{task} reads csv:PATH, json:PATH or hub:NAME, got {source!r}")
    tables = load_tables(kind, argument)
    if "train" not in tables:
        raise UserError(f"{source} has no split named train, has {', '.join(tables)}")
    train, validation, test = tables["train"], tables.get("validation"), tables.get("test")
    if test is None and test_fraction:
        train, test = _take(train, test_fraction, seed)
    if validation is None and validation_fraction:
        train, validation = _take(train, validation_fraction, seed + 1)
    if len(train) == 0:
        raise UserError(f"{source} has no training row")
    normalise = {
        "sequence-classification": _sequence_rows,
        "token-classification": _token_rows,
        "multiple-choice": _choice_rows,
        "question-answering": _question_rows,
    }[task]
    names = _ClassNames(train)
    parts = {
        part: normalise(table, columns, names)
        for part, table in (("train", train), ("validation", validation), ("test", test))
        if table is not None and len(table)
    }
    if names.names is not None and len(names.names) < 2:
        raise UserError(f"{source} has one class ({', '.join(names.names)}): there is nothing to tell apart")
    return LabelledText(parts, names.names)


def _take(table: Any, fraction: float, seed: int) -> tuple[Any, Any]:
    halves = table.train_test_split(test_size=max(1, round(fraction * len(table))), seed=seed)
    return halves["train"], halves["test"]


class _ClassNames:
    """Label names, from the features of a hub data set or from the training rows themselves."""

    def __init__(self, train: Any):
        self.train = train
        self.names: list[str] | None = None

    def learn(self, column: str, values: Sequence[Any]) -> None:
        if self.names is not None:
            return
        feature = self.train.features[column]
        feature = getattr(feature, "feature", feature)
        if getattr(feature, "names", None):
            self.names = list(feature.names)
        elif not all(isinstance(value, float) for value in values):
            self.names = [str(value) for value in sorted(set(values), key=lambda v: (isinstance(v, str), v))]

    def index(self, value: Any) -> Any:
        if self.names is None:
            return float(value)
        if isinstance(value, int) and str(value) not in self.names and 0 <= value < len(self.names):
            return value
        if str(value) in self.names:
            return self.names.index(str(value))
        raise UserError(f"label {value!r} does not occur in the training part: expected one of {self.names[:10]}")


def _column(table: Any, given: str | None, usual: Sequence[str], what: str) -> str:
    if given is not None:
        if given not in table.column_names:
            raise UserError(f"no column {given!r} for the {what}: the data have {', '.join(table.column_names)}")
        return given
    found = next((name for name in usual if name in table.column_names), None)
    if found is None:
        raise UserError(
            f"no column for the {what}: the data have {', '.join(table.column_names)}; name it with "
            "data.text_column, data.second_text_column or data.label_column"
        )
    return found


def _sequence_rows(table: Any, columns: dict[str, str | None], names: _ClassNames) -> list[dict[str, Any]]:
    text = _column(table, columns.get("text_column"), _TEXT, "text")
    label = _column(table, columns.get("label_column"), _LABEL, "label")
    given = columns.get("second_text_column")
    second = _column(table, given, (), "second text") if given else None
    second = second or next((name for name in _SECOND if name in table.column_names), None)
    for column in (text, second, label):
        if column is not None:
            _no_missing(table, column)
    if isinstance(table[0][label], list):  # several labels at once
        names.learn(label, [value for row in table[label] for value in row])
        return [
            {
                "text": row[text],
                "second": row[second] if second else None,
                "label": [names.index(v) for v in row[label]],
            }
            for row in table
        ]
    names.learn(label, table[label])
    return [
        {"text": row[text], "second": row[second] if second else None, "label": names.index(row[label])}
        for row in table
    ]


def _token_rows(table: Any, columns: dict[str, str | None], names: _ClassNames) -> list[dict[str, Any]]:
    tokens = _column(table, columns.get("text_column"), ("tokens", "words"), "words")
    tags = _column(table, columns.get("label_column"), _TAGS, "tags")
    for index, row in enumerate(table):
        if not isinstance(row[tokens], list) or not isinstance(row[tags], list) or len(row[tokens]) != len(row[tags]):
            raise UserError(f"row {index}: {tokens} and {tags} must be lists of one length, a tag for each word")
    names.learn(tags, [tag for row in table[tags] for tag in row])
    return [{"tokens": row[tokens], "tags": [names.index(tag) for tag in row[tags]]} for row in table]


def _choice_rows(table: Any, columns: dict[str, str | None], names: _ClassNames) -> list[dict[str, Any]]:
    question = _column(table, columns.get("text_column"), ("question", "context", "sent1", "startphrase"), "question")
    label = _column(table, columns.get("label_column"), ("label", "answer"), "label")
    endings = [name for name in table.column_names if name.startswith(("choice", "ending")) and name[-1].isdigit()]
    if not endings and "choices" not in table.column_names:
        raise UserError(f"no choices: expected a column choices or choice0, choice1, ..., have {table.column_names}")
    rows: list[dict[str, Any]] = []
    for index, row in enumerate(table):
        choices = [row[name] for name in endings] if endings else list(row["choices"])
        if not all(isinstance(choice, str) for choice in choices) or not row[question]:
            raise UserError(f"row {index} lacks its question or a choice")
        if rows and len(choices) != len(rows[0]["choices"]):
            raise UserError(f"row {index} has {len(choices)} choices, row 0 has {len(rows[0]['choices'])}")
        if not 0 <= int(row[label]) < len(choices):
            raise UserError(f"label {row[label]} is not one of the {len(choices)} choices")
        rows.append({"question": row[question], "choices": choices, "label": int(row[label])})
    return rows


def _question_rows(table: Any, columns: dict[str, str | None], names: _ClassNames) -> list[dict[str, Any]]:
    for name in ("question", "context", "answers"):
        _column(table, name, (name,), name)
    for index, row in enumerate(table):
        if not row["question"] or not row["context"]:
            raise UserError(f"row {index} lacks its question or its context")
        answers = row["answers"]
        lists = [answers.get(name) for name in ("text", "answer_start")] if isinstance(answers, dict) else []
        if len({len(one) for one in lists if isinstance(one, list)}) != 1 or None in lists:
            raise UserError(
                f'row {index}: answers must be {{"text": [...], "answer_start": [...]}}, two lists of one length'
            )
    return [{"question": row["question"], "context": row["context"], "answers": row["answers"]} for row in table]


def _no_missing(table: Any, column: str) -> None:
    for index, value in enumerate(table[column]):
        if value is None or value == "":
            raise UserError(f"row {index} has no {column}")


class EncodedRows(Dataset):
    """Rows tokenised when asked for, by a function row -> model inputs."""

    def __init__(self, rows: list[dict[str, Any]], encode: Any):
        self.rows, self.encode = rows, encode

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        return self.encode(self.rows[key[1] if isinstance(key, tuple) else key])


def align_tags(tokenizer: PreTrainedTokenizerBase, tokens: list[str], tags: list[int], limit: int) -> dict[str, Any]:
    """Word tags to token labels: the first token of a word carries its tag, the others -100."""
    encoded = tokenizer(tokens, is_split_into_words=True, truncation=True, max_length=limit)
    labels, previous = [], None
    for word in encoded.word_ids():
        labels.append(tags[word] if word is not None and word != previous else -100)
        previous = word
    return {**encoded, "labels": labels}


__all__ = ["EncodedRows", "LabelledText", "align_tags", "load_labelled_text"]
