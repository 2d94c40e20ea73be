"""One html page in one file: pictures are embedded, nothing is loaded from elsewhere."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from .. import __version__

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


def data_uri(content: bytes, kind: str) -> str:
    """A file of a media type, such as "image/png", as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


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


__all__ = ["data_uri", "page_html"]
