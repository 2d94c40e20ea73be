"""Rows of equal keys as a table: comma-separated text, html, columns of a terminal."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as comma-separated text with a heading."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as an html table; numbers with four significant digits."""
    head = "".join(f'<th scope="col">{html.escape(str(key).replace("_", " "))}</th>' for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(v))}</td>" for v in row.values()) + "</tr>" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="group" aria-label="table">{table}</div>'


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as columns of a terminal; numbers, to the right, with four significant digits."""
    cells = [[str(key).replace("_", " ") for key in rows[0]]]
    cells += [["-" if value is None else _cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    columns = zip(*(row.values() for row in rows), strict=True)
    is_number = [all(isinstance(value, int | float | None) for value in column) for column in columns]
    lines = [
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, is_number, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


__all__ = ["csv_text", "table_html", "table_text"]
