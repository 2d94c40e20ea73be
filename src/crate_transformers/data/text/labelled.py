"""Labelled text for the four fine-tuning tasks, from csv, json or a hub data set, tokenised once.

Columns, where the recipe names none, are found by the usual names:
    sequence-classification   text (or sentence, sentence1), a second text if there is one, label
    token-classification      tokens (a list of words), tags (or ner_tags, labels)
    multiple-choice           question (or context, sent1), choices (a list) or choice0..., label
    question-answering        question, context, answers {"text": [...], "answer_start": [...]}
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from ...errors import UserError
from ..keys import Key
from ..tables import load_tables, take
from .label_names import LabelNames

if TYPE_CHECKING:
    from datasets import Dataset as Table

Row = dict[str, Any]  # name of a column -> value
_TEXT = ("text", "sentence", "sentence1", "premise", "question1", "review")
_SECOND = ("text2", "sentence2", "hypothesis", "question2")
_LABEL = ("label", "labels", "answer", "target")
_TAGS = ("tags", "ner_tags", "labels", "pos_tags")


@dataclass(frozen=True)
class LabelledText:
    """Rows of the parts (lists of dictionaries) and the label names; None for a regression.

    notes: sentences for the user about what was decided.
    """

    parts: dict[str, list[Row]]
    labels: list[str] | None
    notes: tuple[str, ...] = ()


def load_labelled_text(
    source: str, task: str, seed: int, validation_fraction: float, test_fraction: float, **columns: str | None
) -> LabelledText:
    """Open a source and give all rows of a task the same columns:

        sequence-classification   text, second (a text or None), label (an index, several, or a number)
        token-classification      tokens, tags (indices)
        multiple-choice           question, choices, label (the number of a choice)
        question-answering        question, context, answers

    The label names are those of the training part before anything is held out of it, so that a rare class is known
    wherever it lands. A validation or test part without any label (-1, as on the hub, or nothing) counts as absent.

    Args:
        source: csv:PATH, json:PATH or hub:NAME.
        task: one of these four.
        validation_fraction, test_fraction: of the training rows, held out where the source has no such part; 0: none.
        seed: of what is held out.
        columns: text_column, second_text_column, label_column; None or absent: found by the usual names.

    Raises:
        ValueError: no such source, missing columns, no rows, labels that are missing or that the training part lacks.
    """
    kind, _, argument = source.partition(":")
    if kind not in ("csv", "json", "hub") or not argument:
        raise UserError(f"{task} reads csv:PATH, json:PATH or hub:NAME, got {source!r}")
    tables = load_tables(kind, argument)
    if "train" not in tables:
        raise UserError(f"{source} has no split named train, has {', '.join(tables)}")
    if len(tables["train"]) == 0:
        raise UserError(f"{source} has no training row")
    normalise = {
        "sequence-classification": _sequence_rows,
        "token-classification": _token_rows,
        "multiple-choice": _choice_rows,
        "question-answering": _question_rows,
    }[task]
    names = LabelNames(written=kind == "csv")
    parts: dict[str, list[Row]] = {}
    notes = []
    for part in ("train", "validation", "test"):
        if part in tables and len(tables[part]):
            rows = normalise(tables[part], columns, names, part)
            if rows is None:
                notes.append(f"the {part} part of {source} has no labels and is left out")
            else:
                parts[part] = rows
    for part, fraction, own_seed in (("test", test_fraction, seed), ("validation", validation_fraction, seed + 1)):
        if part not in parts and fraction:
            rows = parts["train"]
            kept, taken = take(len(rows), fraction, own_seed, source)
            parts["train"], parts[part] = [rows[i] for i in kept], [rows[i] for i in taken]
    if names.names is not None and len(names.names) < 2:
        raise UserError(f"{source} has one class ({', '.join(names.names)}): there is nothing to tell apart")
    return LabelledText(parts, names.names, tuple(notes))


# -- columns ----------------------------------------------------------------------------------------------------------


def _column(table: "Table", given: str | None, usual: Sequence[str], what: str, part: str) -> str:
    if given is not None:
        if given not in table.column_names:
            raise UserError(
                f"no column {given!r} for the {what} in the {part} part: it has {', '.join(table.column_names)}"
            )
        return given
    found = next((name for name in usual if name in table.column_names), None)
    if found is None:
        raise UserError(
            f"no column for the {what} in the {part} part: it has {', '.join(table.column_names)}; name it with "
            "data.text_column, data.second_text_column or data.label_column"
        )
    return found


def _where(part: str) -> Callable[[int], str]:
    """What to call row i of a part in a message."""
    return lambda index: f"row {index}" if part == "train" else f"row {index} of the {part} part"


def _text(row: Row, column: str, where: str) -> str:
    value = row[column]
    if value is None or value == "":
        raise UserError(f"{where} has no {column}")
    if not isinstance(value, str):
        raise UserError(f"{where}: {column} is {str(value)[:40]!r} ({type(value).__name__}), expected text")
    return value


def _flat(lists: Sequence[list[Any]], where: Callable[[int], str]) -> tuple[list[Any], Callable[[int], str]]:
    """(the values of all rows' lists in one, what to call the row of value i)."""
    rows = [index for index, one in enumerate(lists) for _ in one]
    return [value for one in lists for value in one], lambda i: where(rows[i])


# -- the four tasks: rows of a part, None where the part has no labels -----------------------------------------------


def _sequence_rows(table: "Table", columns: dict[str, str | None], names: LabelNames, part: str) -> list[Row] | None:
    where = _where(part)
    text = _column(table, columns.get("text_column"), _TEXT, "text", part)
    label = _column(table, columns.get("label_column"), _LABEL, "label", part)
    given = columns.get("second_text_column")
    second = _column(table, given, (), "second text", part) if given else None
    second = second or next((name for name in _SECOND if name in table.column_names and name != text), None)
    labels = list(table[label])
    are_lists = any(isinstance(one, list) for one in labels)  # several labels at once
    names.check_several(are_lists, where(0))
    flat, place = _flat([one or [] for one in labels], where) if are_lists else (labels, where)
    if part != "train" and names.are_missing(flat):
        return None
    for index, one in enumerate(labels):
        if one is None or one == "":
            raise UserError(f"{where(index)} has no {label}")
        if are_lists and len(set(one)) < len(one):
            raise UserError(f"{where(index)}: {label} {one} names a class twice; it lists each class of the row once")
    if part == "train":
        names.learn(table.features[label], flat, place, may_be_numbers=not are_lists)
    return [
        {
            "text": _text(row, text, where(index)),
            "second": _text(row, second, where(index)) if second else None,
            "label": [names.index(one, where(index)) for one in row[label]]
            if are_lists
            else names.index(row[label], where(index)),
        }
        for index, row in enumerate(table)
    ]


def _token_rows(table: "Table", columns: dict[str, str | None], names: LabelNames, part: str) -> list[Row] | None:
    where = _where(part)
    tokens = _column(table, columns.get("text_column"), ("tokens", "words"), "words", part)
    tags = _column(table, columns.get("label_column"), _TAGS, "tags", part)
    for index, row in enumerate(table):
        if not isinstance(row[tokens], list) or not isinstance(row[tags], list) or len(row[tokens]) != len(row[tags]):
            raise UserError(f"{where(index)}: {tokens} and {tags} must be lists of one length, a tag for each word")
        if not row[tokens] or not all(isinstance(word, str) and word for word in row[tokens]):
            raise UserError(f"{where(index)}: {tokens} must be words, got {str(row[tokens])[:40]}")
    flat, place = _flat(list(table[tags]), where)
    if part != "train" and names.are_missing(flat):
        return None
    if part == "train":
        names.learn(table.features[tags], flat, place, may_be_numbers=False)
    return [
        {"tokens": row[tokens], "tags": [names.index(tag, where(index)) for tag in row[tags]]}
        for index, row in enumerate(table)
    ]


def _choice_rows(table: "Table", columns: dict[str, str | None], names: LabelNames, part: str) -> list[Row] | None:
    where = _where(part)
    question = _column(
        table, columns.get("text_column"), ("question", "context", "sent1", "startphrase"), "question", part
    )
    label = _column(table, columns.get("label_column"), ("label", "answer"), "label", part)
    if part != "train" and names.are_missing(table[label]):
        return None
    numbered = {
        name: match for name in table.column_names if (match := re.fullmatch(r"(?:choice|ending).*?(\d+)", name))
    }
    endings = sorted(numbered, key=lambda name: int(numbered[name][1]))
    if not endings and "choices" not in table.column_names:
        raise UserError(f"no choices: expected a column choices or choice0, choice1, ..., have {table.column_names}")
    rows: list[Row] = []
    for index, row in enumerate(table):
        choices = [row[name] for name in endings] if endings else row["choices"]
        if not isinstance(choices, list):
            raise UserError(f"{where(index)}: choices must be a list of texts, got {str(choices)[:40]!r}")
        if not all(isinstance(choice, str) and choice for choice in choices) or not row[question]:
            raise UserError(f"{where(index)} lacks its question or a choice")
        if rows and len(choices) != len(rows[0]["choices"]):
            raise UserError(f"{where(index)} has {len(choices)} choices, row 0 has {len(rows[0]['choices'])}")
        chosen = _choice(row[label], len(choices), where(index))
        rows.append({"question": _text(row, question, where(index)), "choices": choices, "label": chosen})
    return rows


def _choice(label: object, count: int, where: str) -> int:
    """The number of a choice, also where csv or the hub has it as text."""
    is_number = re.fullmatch(r"\d+(\.0)?", str(label), re.ASCII)
    chosen = int(float(str(label))) if is_number else count
    if chosen >= count:
        raise UserError(f"{where}: label {label!r} is not one of the {count} choices, 0 to {count - 1}")
    return chosen


def _question_rows(table: "Table", columns: dict[str, str | None], names: LabelNames, part: str) -> list[Row]:
    where = _where(part)
    for name in ("question", "context", "answers"):
        _column(table, name, (name,), name, part)
    rows = []
    for index, row in enumerate(table):
        if not row["question"] or not row["context"]:
            raise UserError(f"{where(index)} lacks its question or its context")
        question, context = _text(row, "question", where(index)), _text(row, "context", where(index))
        _check_answers(row["answers"], context, where(index))
        rows.append({"question": question, "context": context, "answers": row["answers"]})
    return rows


def _check_answers(answers: object, context: str, where: str) -> None:
    lists = [answers.get(name) for name in ("text", "answer_start")] if isinstance(answers, dict) else []
    if len({len(one) for one in lists if isinstance(one, list)}) != 1 or None in lists:
        raise UserError(f'{where}: answers must be {{"text": [...], "answer_start": [...]}}, two lists of one length')
    for text, start in zip(*lists, strict=True):
        if not isinstance(text, str) or not isinstance(start, int) or context[start : start + len(text)] != text:
            raise UserError(f"{where}: the answer {text!r} does not stand at character {start} of its context")


class EncodedRows(Dataset):
    """Rows tokenised when asked for, by a function row -> model inputs."""

    def __init__(self, rows: list[Row], encode: Callable[[Row], dict[str, Any]]):
        self.rows, self.encode = rows, encode

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        return self.encode(self.rows[key[1] if isinstance(key, tuple) else key])


def align_tags(tokenizer: PreTrainedTokenizerBase, tokens: list[str], tags: list[int], limit: int) -> dict[str, Any]:
    """Word tags to token labels: the first token of a word carries its tag, the others carry -100.

    A word that spells a special token is read as a word. The tokenizer must be a fast one: only such a tokenizer says
    which word a token belongs to.

    Args:
        limit: tokens of a row at most; what is longer is cut.

    Returns:
        the tokenizer's lists of numbers, and "labels", as long as "input_ids".
    """
    encoded = tokenizer(tokens, is_split_into_words=True, truncation=True, max_length=limit, split_special_tokens=True)
    labels, previous = [], None
    for word in encoded.word_ids():
        labels.append(tags[word] if word is not None and word != previous else -100)
        previous = word
    return {**encoded, "labels": labels}


__all__ = ["EncodedRows", "LabelledText", "align_tags", "load_labelled_text"]
