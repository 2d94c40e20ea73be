"""A look into samples on a page: attention from any patch or token, and codes, in any layer and head.

The numbers lie in the page in few bits: a weight in 8 bits beside the largest of its row (so a shown weight is right to
1/510 of that), an entry of a code in 7 bits and a sign beside the largest of its layer. An entry is 0 in the page where
it is 0 in the model, and only there.

Shapes: K heads, Q queries (all N, or one), N tokens, m entries of a code, H x W pixels.
"""

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from .page import data_uri
from .pictures import png_bytes

_LARGEST = 384  # pixels of the longer side of a picture that is shown


def few_bits_of_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (..., N) >= 0 as 8 bits (..., N) uint8, and the largest of each row (...) float32.

    Example:
        >>> few_bits_of_weights(np.array([0.5, 0.25, 0.0]))
        (array([255, 128,   0], dtype=uint8), array(0.5, dtype=float32))
    """
    tops = weights.max(axis=-1)
    scaled = weights / np.maximum(tops, np.finfo(np.float32).tiny)[..., None]
    return np.round(255 * scaled.clip(0, 1)).astype(np.uint8), np.asarray(tops, dtype=np.float32)


def few_bits_of_codes(codes: np.ndarray) -> tuple[np.ndarray, float]:
    """Codes (N, m) as 7 bits and a sign (N, m) int8, 0 for 0 alone, and the largest absolute value.

    Example:
        >>> few_bits_of_codes(np.array([[2.0, -1.0, 0.001, 0.0]]))
        (array([[127, -64,   1,   0]], dtype=int8), 2.0)
    """
    top = float(np.abs(codes).max(initial=0))
    sizes = np.round(127 * np.abs(codes) / max(top, np.finfo(np.float32).tiny)).clip(1, 127)
    return (np.sign(codes) * np.where(codes != 0, sizes, 0)).astype(np.int8), top


@dataclass(frozen=True, eq=False)
class InLayer:
    """What a layer made of a sample, in few bits.

    Attributes:
        weights: (K, Q, N) uint8 with tops (K, Q) float32, as `few_bits_of_weights` gives them.
        nonzeros: (N,) how many entries of each code are not 0; empty where the layer makes no code.
        code_width: m. codes: (N, m) int8 with code_top, as `few_bits_of_codes` gives them; None where they are left
            out.
    """

    weights: np.ndarray
    tops: np.ndarray
    nonzeros: np.ndarray
    code_width: int = 0
    codes: np.ndarray | None = None
    code_top: float = 0.0

    def packed(self) -> dict[str, Any]:
        """As the page's script opens it."""
        return {
            "queries": self.weights.shape[1],
            "weights": _base64(self.weights),
            "tops": _base64(self.tops.astype("<f4")),
            "nonzeros": _base64(self.nonzeros.astype("<u4")),
            "codes": "" if self.codes is None else _base64(self.codes),
            "top": self.code_top,
            "width": self.code_width,
        }


@dataclass(frozen=True, eq=False)
class Looked:
    """A sample and what every layer made of it: a picture (H, W, 3) uint8, or the tokens of a text."""

    name: str
    layers: tuple[InLayer, ...] = ()
    picture: np.ndarray | None = None
    tokens: tuple[str, ...] = ()
    is_wrong: bool = False


@dataclass(frozen=True, eq=False)
class View:
    """Samples to look into.

    Attributes:
        samples: at least one; pictures, all of one size, or texts.
        layers: the numbers of the layers, from 0. start: which of them is shown at first.
        heads: K. grid: (rows, columns) of patches; of text (1, N). prefix: tokens before the patches.
        kept: the token whose weights are held in every layer.
        is_membership: whether the weights are how far a token belongs to a head.
        notes: what is left out, and why.
    """

    samples: tuple[Looked, ...]
    layers: tuple[int, ...]
    start: int
    heads: int
    grid: tuple[int, int]
    prefix: int = 1
    kept: int = 0
    is_membership: bool = False
    notes: Sequence[str] = field(default=())


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _script_json(data: object) -> str:
    """JSON that no text within can end."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def shown_picture(picture: np.ndarray, largest: int = _LARGEST) -> str:
    """A picture (H, W, 3) uint8 as an address that holds it; made smaller where a side has more pixels than this."""
    if max(picture.shape[:2]) > largest:
        scale = largest / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    return data_uri(png_bytes(picture), "image/png")


_HELD = (
    "Held in this page in few bits: a weight in 8 beside the largest of its row (right to 1/510 of that), an entry of "
    "a code in 7 and a sign beside the largest of its layer; 0 is exactly 0."
)


def view_html(view: View, without_scripts: str = "") -> str:
    """The samples with what chooses layer, head and patch or token.

    Args:
        without_scripts: html that is shown in its place where no script runs.
    """
    is_text = view.samples[0].picture is None
    data = {
        "text": is_text, "grid": view.grid, "prefix": 0 if is_text else view.prefix, "kept": view.kept,
        "membership": view.is_membership, "heads": view.heads, "layers": view.layers, "start": view.start,
        "items": [
            {"name": one.name, "tokens": one.tokens, "layers": [layer.packed() for layer in one.layers]}
            for one in view.samples
        ],
    }  # fmt: skip
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in (*view.notes, _HELD))
    stage = _TOKENS if is_text else _stage(view.grid)
    fallback = without_scripts or "<p>Attention and codes are shown where scripts run.</p>"
    return (
        f'<div class="viewer{" of-text" if is_text else ""}" hidden><p class="note">{_how(view, is_text)}</p>'
        f'{_thumbs(view.samples)}<p class="caption"></p>{_controls(view)}'
        f'<div class="looking"><div>{stage}<p class="scale"><span></span><i class="ramp"></i><span></span></p>'
        '<p class="said"></p><output class="readout value"></output></div>'
        f"<div>{_heads(view)}<h3>Code</h3>"
        '<p class="code-of"></p><canvas class="strip" aria-hidden="true"></canvas>'
        '<div class="neurons" role="group" aria-label="strongest entries of the code"></div></div></div>'
        f'{notes}<script type="application/json">{_script_json(data)}</script></div>'
        f"<noscript>{fallback}</noscript>"
    )


def _how(view: View, is_text: bool) -> str:
    if is_text:
        return "Choose a token, a layer and a head. Arrow keys go from token to token."
    if view.is_membership:
        return "Choose a picture, a layer, a head, and the patch of the code. Arrow keys go from patch to patch."
    last = "; the key Home is the class token, which is chosen at first" if view.prefix else ""
    return f"Choose a picture, a layer, a head, and the patch that looks. Arrow keys go from patch to patch{last}."


_TOKENS = '<div class="tokens" role="group" aria-label="The text, token by token: arrow keys choose a token"></div>'


def _stage(grid: tuple[int, int]) -> str:
    rows, columns = grid
    return (
        '<div class="stage" tabindex="0" role="application" aria-roledescription="picture of patches" '
        'aria-label="Picture"><img alt=""><canvas class="over" aria-hidden="true"></canvas>'
        f'<svg viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="1" height="1" fill="none" stroke="#ff7f0e" stroke-width="0.14"/></svg></div>'
    )


def _thumbs(samples: Sequence[Looked]) -> str:
    if samples[0].picture is None:
        return ""
    buttons = []
    for one in samples:
        assert one.picture is not None
        name, kind = html.escape(one.name), ' class="wrong"' if one.is_wrong else ""
        image = f'<img alt="{name}" src="{shown_picture(one.picture)}">'
        buttons.append(f'<button type="button" title="{name}"{kind}>{image}</button>')
    return f'<div class="thumbs" role="group" aria-label="pictures">{"".join(buttons)}</div>'


def _controls(view: View) -> str:
    weights = "membership" if view.is_membership else "attention"
    return (
        '<div class="row"><label class="slide">layer <input class="layer" type="range" min="0" '
        f'max="{len(view.layers) - 1}" step="1" value="{view.start}"><output class="layer-number"></output></label>'
        f'<label>shown <select class="what"><option value="attention">{weights}</option>'
        '<option value="nonzeros">non-zero entries of the codes</option>'
        '<option value="neuron">neuron 0 of the codes</option></select></label></div>'
    )


def _heads(view: View) -> str:
    buttons = "".join(
        f'<button type="button" data-head="{head}"><canvas aria-hidden="true"></canvas>{name}</button>'
        for head, name in ((-1, "mean"), *((head, f"head {head}") for head in range(view.heads)))
    )
    return f'<h3>Heads</h3><div class="heads" role="group" aria-label="heads">{buttons}</div>'


__all__ = ["InLayer", "Looked", "View", "few_bits_of_codes", "few_bits_of_weights", "shown_picture", "view_html"]
