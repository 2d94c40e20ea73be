"""One html page in one file: pictures, the style and the script are within it, nothing is loaded from elsewhere."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .. import __version__
from .colors import SIGNS, VIRIDIS


def data_uri(content: bytes, kind: str) -> str:
    """A file of a media type, such as "image/png", as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@cache
def _beside(name: str) -> str:
    """The text of a file in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _gradient(name: str, ramp: tuple[tuple[int, int, int], ...]) -> str:
    """A rule for an element that shows a ramp from its first to its last colour."""
    colors = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in ramp)
    return f".ramp.{name} {{ background: linear-gradient(90deg, {colors}); }}\n"


def page_html(title: str, facts: Mapping[str, Any], sections: Sequence[tuple[str, str]]) -> str:
    """One self-contained page: a title, facts about how it was made, and (heading, html) sections."""
    meta = "; ".join(f"{html.escape(name)}: {html.escape(str(value))}" for name, value in facts.items())
    ramps = {"amount": VIRIDIS, "signed": SIGNS}
    style = _beside("page.css") + "".join(map(_gradient, ramps, ramps.values()))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="meta">{meta}; crate_transformers: {__version__}</p>',
        *(f"<section><h2>{html.escape(heading)}</h2>{content}</section>" for heading, content in sections),
        f"</main><script>(() => {{\nconst RAMPS = {json.dumps(ramps)};\n{_beside('page.js')}}})();</script>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


__all__ = ["data_uri", "page_html"]
