"""Files of the white box, each written whole or not at all: tables, figures, one html page.

A page is one file: pictures are embedded, nothing is loaded from elsewhere.
"""

import base64
import csv
import html
import io
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..files import write_bytes

FIGURE_FORMATS = ("png", "svg")
_DPI = 160
_CAPTION_POINTS = 7.5


def write_json(path: Path, content: Any) -> Path:
    """JSON, indented; numbers that are not finite become null."""
    return write_bytes(path, (json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as comma-separated text with a heading."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    return write_bytes(path, csv_text(rows).encode())


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """Named arrays as .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return write_bytes(path, buffer.getvalue())


def draw_as_written(figure: Any) -> None:
    """Let a figure draw its texts as they are: a $ in the name of a class or a file opens no mathematics."""
    from matplotlib.text import Text  # heavy

    for text in figure.findobj(Text):
        text.set_parse_math(False)


@dataclass(frozen=True)
class Plate:
    """A figure, the name of its files, a caption: what was measured, on what, in which mode, by which version."""

    name: str
    figure: Any  # matplotlib.figure.Figure
    caption: str

    def render(self, kind: str, captioned: bool = True) -> bytes:
        """The figure as a file of kind "png" or "svg", with its caption under it or not."""
        if self.figure.get_layout_engine() is not None:  # lay out once, with the caption, and keep that
            characters = max(40, int(self.figure.get_size_inches()[0] * 72 / _CAPTION_POINTS / 0.53))
            text = "\n".join(textwrap.wrap(self.caption, characters))
            self.figure.supxlabel(text, x=0.01, ha="left", fontsize=_CAPTION_POINTS, color="0.25")
            draw_as_written(self.figure)
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")
        self.figure._supxlabel.set_visible(captioned)
        buffer = io.BytesIO()
        metadata = {"Date": None, "Description": self.caption} if kind == "svg" else {"Description": self.caption}
        self.figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
        return buffer.getvalue()

    def write(self, folder: Path) -> list[Path]:
        """`name.png` and `name.svg` in a folder."""
        return [write_bytes(folder / f"{self.name}.{kind}", self.render(kind)) for kind in FIGURE_FORMATS]

    def html(self, kind: str = "svg") -> str:
        text = html.escape(self.caption, quote=True)
        image = data_uri(self.render(kind, captioned=False), "image/svg+xml" if kind == "svg" else "image/png")
        return f'<figure><img alt="{text}" src="{image}"><figcaption>{text}</figcaption></figure>'


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as an html table; numbers with four significant digits."""
    head = "".join(f"<th>{html.escape(str(key).replace('_', ' '))}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(v))}</td>" for v in row.values()) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_STYLE = """
:root { color-scheme: light dark; --line: #8886; --faint: #8882; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2.4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--faint); }
th { border-bottom: 1px solid var(--line); vertical-align: bottom; }
td:first-child, th:first-child { text-align: left; }
.wide { overflow-x: auto; } figure { margin: 1.2rem 0; }
img { max-width: 100%; height: auto; background: white; border-radius: 6px; }
figcaption, .meta { font-size: .88rem; opacity: .8; }
.tokens { line-height: 2; } .tokens span { padding: .15rem .1rem; border-radius: 3px; white-space: pre-wrap; }
.tokens span[tabindex] { cursor: pointer; } .tokens span.query { outline: 2px solid #D55E00; }
.text td { text-align: left; white-space: pre-wrap; font-family: ui-monospace, monospace; }
select { font: inherit; } a { color: inherit; }
"""


def page_html(title: str, facts: Mapping[str, Any], sections: Sequence[tuple[str, str]], script: str = "") -> str:
    """One self-contained page: a title, facts about how it was made, and (heading, html) sections."""
    meta = "; ".join(f"{html.escape(name)}: {html.escape(str(value))}" for name, value in facts.items())
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="meta">{meta}; crate_transformers: {__version__}</p>',
        *(f"<section><h2>{html.escape(heading)}</h2>{content}</section>" for heading, content in sections),
        f"<script>{script}</script>" if script else "",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


__all__ = [
    "FIGURE_FORMATS",
    "Plate",
    "csv_text",
    "data_uri",
    "draw_as_written",
    "page_html",
    "table_html",
    "write_arrays",
    "write_bytes",
    "write_csv",
    "write_json",
]
