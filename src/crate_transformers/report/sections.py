"""The sections of a page, and report.html: one self-contained file of a run."""

import html
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
import yaml

from ..files import write_bytes
from .canvas import draw_as_written
from .page import data_uri, page_html
from .tables import table_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Section:
    """A heading, a sentence, a table (rows of equal keys), figures, preformatted text, and lines below.

    drawn: html that a function of this room made: charts, tables of colours, pictures, a look into samples.
    """

    title: str
    text: str = ""
    figures: Sequence["Figure"] = ()
    table: Sequence[Mapping[str, Any]] = ()
    verbatim: str = ""
    details: list[str] = field(default_factory=list)
    drawn: str = ""

    def html(self) -> str:
        """The section below its heading."""
        parts = [_paragraph(self.text)] if self.text else []
        if self.table:
            parts.append(table_html(self.table))
        if self.drawn:
            parts.append(self.drawn)
        parts += [_figure(figure, self.title) for figure in self.figures]
        if self.verbatim:
            parts.append(_preformatted(self.verbatim))
        return "\n".join([*parts, *map(_paragraph, self.details)])


def write_report(path: Path, title: str, sections: Sequence[Section], recipe: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all."""
    facts = {
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "Python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    contents = [(section.title, section.html()) for section in sections]
    contents.append(("Recipe as run", _preformatted(yaml.safe_dump(dict(recipe), sort_keys=False))))
    write_bytes(path, page_html(title, facts, contents).encode())


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _preformatted(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _figure(figure: "Figure", title: str) -> str:
    buffer = io.BytesIO()
    draw_as_written(figure)
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    source = data_uri(buffer.getvalue(), "image/svg+xml")
    return f'<figure><img alt="{html.escape(title, quote=True)}" src="{source}"></figure>'


__all__ = ["Section", "write_report"]
