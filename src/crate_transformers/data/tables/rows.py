"""Rows of csv and json files with the values that are written there: only an empty cell counts as missing."""

import csv
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..files import not_utf8, open_bytes

_LONGEST_CELL = 2**31 - 1  # characters; the limit of the csv module would be 131,072
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_rows(kind: str, path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, column -> value. kind: "csv" or "json".

    csv: separated by commas, with a header; every value is a string as it stands there, an empty cell is None.
    json: an object a line, or one list of objects (or of strings: the column text); values as JSON has them.

    Raises:
        ValueError: a file that is no such table; named, with the line.
    """
    try:
        with open_bytes(path, uncompress=True) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            yield from (_csv_rows if kind == "csv" else _json_rows)(path, file)
    except UnicodeDecodeError as error:
        raise not_utf8(path, f"in line {_line_not_utf8(path)}", error) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _line_not_utf8(path: Path) -> int:
    with open_bytes(path, uncompress=True) as raw:
        return next(n for n, line in enumerate(raw, start=1) if line.decode("utf-8", "ignore").encode() != line)


def _csv_rows(path: Path, file: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(file, strict=True)
    try:
        header = _header(path, next(reader, []))
        for cells in reader:
            if not cells:
                continue  # an empty line
            if len(cells) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num}: {_cells(len(cells))}, the header has {len(header)}; cells that "
                    'hold commas or line breaks stand in quotes: "a, b"'
                )
            yield {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; quotes within a cell are doubled") from error


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _header(path: Path, cells: list[str]) -> list[str]:
    if not any(cells):
        raise UserError(f"{path} has no header: expected the names of its columns in the first line")
    if len(cells) == 1:
        for separator, name in _SEPARATORS.items():
            if separator in cells[0]:
                raise UserError(f"{path} is separated by {name} ({cells[0]!r}): separate its cells by commas")
    header = [name or f"Unnamed: {index}" for index, name in enumerate(cells)]  # as pandas, which writes such files
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise UserError(f"{path} has two columns of the name {min(twice)!r}: rename one")
    return header


def _json_rows(path: Path, file: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    number, start = 1, file.readline()
    while start and not start.strip():
        number, start = number + 1, file.readline()
    if start.lstrip().startswith("["):
        rows = _parse(path, "", start + file.read())
        assert isinstance(rows, list)  # the text begins with [
        for index, row in enumerate(rows):
            yield _object(path, f"item {index}", {"text": row} if isinstance(row, str) else row)
        return
    while start:
        if start.strip():
            yield _object(path, f"line {number}", _parse(path, f", line {number}", start))
        number, start = number + 1, file.readline()


def _parse(path: Path, place: str, text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}{place} is no JSON ({error}): expected one object a line, or one list of objects"
        ) from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's names and values; a name that comes twice is an error."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return found


def _object(path: Path, place: str, row: object) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{path}, {place}: expected an object {{column: value}}, got {str(row)[:40]!r}")
    return row


__all__ = ["read_rows"]
