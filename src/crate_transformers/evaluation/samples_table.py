"""A table with a row a sample, written as the samples come, so that it may be longer than memory."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ..data.files import staged

Cell: TypeAlias = str | int | float | bool
AddRows: TypeAlias = Callable[[Sequence[Mapping[str, Cell]]], None]


@contextmanager
def samples_table(path: Path | None) -> Iterator[AddRows]:
    """A function that adds rows of equal keys to a comma-separated file, which appears when the block ends well.

    Args:
        path: the file; None writes nothing.
    """
    if path is None:
        yield lambda rows: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged(path) as file:
        written = False

        def add(rows: Sequence[Mapping[str, Cell]]) -> None:
            """Write rows, with a heading before the first."""
            nonlocal written
            if not rows:
                return
            text = io.StringIO()
            writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
            if not written:
                writer.writeheader()
            writer.writerows(rows)
            file.write(text.getvalue().encode())
            written = True

        yield add


__all__ = ["AddRows", "Cell", "samples_table"]
