"""Where text comes from: `python-reference`, `text:PATH`, `csv:PATH`, `json:PATH`, `hub:NAME`.

Held-out text is a contiguous part at the end (of files), or whole documents drawn with the seed (of everything else).
"""

import difflib
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...errors import UserError
from ...files import user_path
from ..tables import load_tables, take
from .benchmarks import TEXT_BENCHMARKS, is_text_benchmark
from .files import load_text_files
from .parts import TextPart, TextSplits, once

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    Table: TypeAlias = Dataset | IterableDataset
    Tables: TypeAlias = dict[str, Table]

_SOURCES = {
    "python-reference": "python-reference",
    "text": "text:PATH",
    "csv": "csv:PATH",
    "json": "json:PATH",
    "hub": "hub:NAME",
}


def load_text_source(
    source: str,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    text_column: str | None = None,
    streaming: bool = False,
) -> TextSplits:
    """Open a source of running text.

    Args:
        source: "python-reference" (the language reference that comes with Python); "text:PATH" (a file, or a folder of
            .txt and .md files); "csv:PATH" or "json:PATH" (a file, or a folder with train, validation and test files;
            the text stands in `text_column`); "hub:NAME" or "hub:NAME:CONFIG".
        validation_fraction, test_fraction: held out where the source has no such part, in (0, 1).
        streaming: read a hub data set as it arrives.

    Raises:
        ValueError: an unknown source, no text, text that is not UTF-8 (named, with the byte), a column that is none or
            holds no text.
    """
    kind, _, argument = source.partition(":")
    if is_text_benchmark(source):
        raise UserError(f"{kind} is for `crate evaluate` alone: text:PATH trains on a file of it")
    if kind not in _SOURCES:
        near = difflib.get_close_matches(kind, [*_SOURCES, *TEXT_BENCHMARKS], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown text source {source!r}: expected one of {', '.join(_SOURCES.values())}{hint}")
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise UserError(f"data.{name} must be in (0, 1), got {fraction}")
    if validation_fraction + test_fraction >= 1:
        raise UserError("data.validation_fraction and data.test_fraction leave nothing to learn from")
    if kind == "python-reference":
        return _in_memory(source, _python_reference(), validation_fraction, test_fraction, seed)
    if not argument:
        raise UserError(f"--data {kind} needs a name: {_SOURCES[kind]}")
    if kind == "text":
        return load_text_files(user_path(argument), validation_fraction, test_fraction)
    return _tables(kind, argument, text_column, validation_fraction, test_fraction, seed, streaming)


def _python_reference() -> list[str]:
    from pydoc_data.topics import topics  # 700 kB of text, which only this source needs

    return [topics[name] for name in sorted(topics)]


def _in_memory(
    name: str, documents: list[str], validation_fraction: float, test_fraction: float, seed: int
) -> TextSplits:
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise UserError(f"{name} holds no text")
    order = np.random.default_rng(seed).permutation(len(documents))
    held = [max(1, round(fraction * len(documents))) for fraction in (validation_fraction, test_fraction)]
    if sum(held) >= len(documents):
        raise UserError(f"{name} has {len(documents)} documents: too few to hold some out")
    bounds = np.cumsum([0, *held])
    validation, test, train = np.split(order, bounds[1:])

    def part(chosen: np.ndarray) -> TextPart:
        """The documents at these places."""
        return TextPart.of([documents[i] for i in chosen])

    return TextSplits(name, part(train), part(validation), part(test))


# -- tables -----------------------------------------------------------------------------------------------------------


def _tables(
    kind: str,
    argument: str,
    text_column: str | None,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    streaming: bool,
) -> TextSplits:
    name = f"{kind}:{argument}"
    tables = load_tables(kind, argument, streaming)
    if "train" not in tables:
        raise UserError(f"{name} has no split named train, has {', '.join(tables)}")
    if text_column is not None and text_column not in (tables["train"].column_names or [text_column]):
        listed = ", ".join(tables["train"].column_names)
        raise UserError(f"{name} has no column {text_column!r}, it has {listed}")
    column = text_column or _only_text_column(tables["train"], name)
    fingerprints: dict[str, str | None] = {part: getattr(table, "_fingerprint", None) for part, table in tables.items()}
    known = {part: fingerprint for part, fingerprint in fingerprints.items() if fingerprint is not None}
    state = known if len(known) == len(fingerprints) else None
    parts: Tables = {part: tables[part] for part in ("train", "validation", "test") if part in tables}
    if hasattr(parts["train"], "__len__"):
        for part, table in parts.items():
            _check_texts(table, column, f"the {part} part of {name}")
        _hold_out_rows(parts, {"test": test_fraction, "validation": validation_fraction}, seed, name)
    else:
        _hold_out_head(parts)
    texts = {part: _texts(table, column, f"the {part} part of {name}") for part, table in parts.items()}
    return TextSplits(name, texts["train"], texts["validation"], texts["test"], state)


def _hold_out_rows(parts: "Tables", fractions: dict[str, float], seed: int, name: str) -> None:
    for part, fraction in fractions.items():
        if part not in parts:
            train = parts["train"]
            kept, taken = take(len(train), fraction, seed, name)
            parts["train"], parts[part] = train.select(kept), train.select(taken)


def _hold_out_head(parts: "Tables", rows: int = 1000) -> None:
    """Hold out the first rows of a stream: its length is not known."""
    for part in ("validation", "test"):
        if part not in parts:
            parts["train"], parts[part] = parts["train"].skip(rows), parts["train"].take(rows)


def _texts(table: "Table", column: str, name: str) -> TextPart:
    """One document a row; rows without text are passed over."""
    if table.column_names:
        table = table.select_columns([column])
    return TextPart(lambda: (partial(once, text) for row in table if (text := _text(row[column], column, name))))


def _text(value: object, column: str, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UserError(f"{name}: {column} holds {str(value)[:40]!r} ({type(value).__name__}), expected text")


def _check_texts(table: "Table", column: str, name: str) -> None:
    """See that a column is there, holds text and is not empty, before anything is made of it."""
    if column not in table.column_names:
        raise UserError(f"{name} has no column {column!r}, it has {', '.join(table.column_names)}")
    for index, row in enumerate(table.select_columns([column])):
        if _text(row[column], column, f"{name}, row {index}"):  # one type a column, so one text tells of all
            return
    raise UserError(f"{name}: the column {column!r} is empty")


def _only_text_column(table: "Table", name: str) -> str:
    columns = list(table.column_names or [])
    if "text" in columns:
        return "text"
    if len(columns) == 1:
        return columns[0]
    raise UserError(f"{name} has the columns {', '.join(columns)}: say which holds the text, --set data.text_column=")


__all__ = ["TextPart", "TextSplits", "load_tables", "load_text_source"]
