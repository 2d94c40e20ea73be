"""report.html: one self-contained file of a run."""

import html
import io
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from matplotlib.figure import Figure

from .. import __version__
from .files import write_text


@dataclass
class Section:
    """A heading, a sentence, figures, tables (rows of cells, the first row the heading) and preformatted text."""

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: Sequence[Sequence[Any]] = ()
    verbatim: str = ""
    details: list[str] = field(default_factory=list)


_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: .8rem 0; } td, th { padding: .2rem .8rem; text-align: right; }
th { border-bottom: 1px solid var(--line); } td:first-child, th:first-child { text-align: left; }
svg { max-width: 100%; height: auto; background: white; border-radius: 6px; }
pre { background: #8882; padding: .8rem; overflow-x: auto; border-radius: 6px; white-space: pre-wrap; }
.meta { opacity: .75; }
"""


def figure_svg(figure: Figure) -> str:
    """A figure as an <svg> element for an html page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_report(path: Path, title: str, sections: Sequence[Section], recipe: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all."""
    where = f"crate_transformers {__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'><link rel='icon' href='data:,'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='meta'>{where}, Python {platform.python_version()}, {torch.get_num_threads()} threads. {made}</p>",
        *(_section(section) for section in sections),
        "<h2>Recipe as run</h2><pre>",
        html.escape(yaml.safe_dump(dict(recipe), sort_keys=False)),
        "</pre></body></html>",
    ]
    write_text(path, "\n".join(parts))


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.table:
        head, *rows = section.table
        parts.append("<table><tr>" + "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head) + "</tr>")
        for row in rows:
            parts.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>")
        parts.append("</table>")
    parts += [f"<figure style='margin:0'>{figure_svg(figure)}</figure>" for figure in section.figures]
    if section.verbatim:
        parts.append(f"<pre>{html.escape(section.verbatim)}</pre>")
    parts += [f"<p>{html.escape(line)}</p>" for line in section.details]
    return "\n".join(parts)


__all__ = ["Section", "figure_svg", "write_report"]
