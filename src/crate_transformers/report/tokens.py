"""Text on a page: what makes neurons fire, in context; attention over tokens; what steering does.

Whatever a model or a user wrote is escaped.

Shapes: L layers, K heads, N tokens.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Firing:
    """A place where a neuron fires: its value, the tokens around as text, and which of them it fires on."""

    value: float
    tokens: tuple[str, ...]
    place: int


@dataclass(frozen=True)
class ShownNeuron:
    """A neuron: its number, the fraction of tokens that it fires on, its selectivity, its mean value when it fires."""

    neuron: int
    fire_fraction: float
    selectivity: float
    mean_when_firing: float
    examples: tuple[Firing, ...]


class TokenWeights(Protocol):
    """Attention of one sequence, as `analysis.TokenAttention` holds it."""

    @property
    def weights(self) -> Tensor:
        """(L, K, N, N)."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The N tokens as text."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers of the L layers, from 0."""


def _span(text: str, weight: float, extra: str = "") -> str:
    """A token on a blue ground as strong as its weight, in [0, 1]."""
    shown = html.escape(text).replace("\n", "⏎")
    return f'<span style="background:rgba(0,114,178,{0.75 * weight:.2f})"{extra}>{shown}</span>'


def firing_html(neurons: Sequence[ShownNeuron], num_tokens: int) -> str:
    """Neurons, each with its statistics over `num_tokens` tokens and its strongest tokens in context, as html."""
    parts = []
    for neuron in neurons:
        parts.append(
            f"<h3>Neuron {neuron.neuron}</h3><p class='meta'>fires on {100 * neuron.fire_fraction:.2f} % of "
            f"{num_tokens} tokens; selectivity {neuron.selectivity:.3f}; mean when firing "
            f"{neuron.mean_when_firing:.3g}</p>"
        )
        largest = max((example.value for example in neuron.examples), default=1.0)
        for example in neuron.examples:
            line = "".join(
                _span(word, example.value / largest if i == example.place else 0.0)
                for i, word in enumerate(example.tokens)
            )
            parts.append(f'<div class="tokens"><small>{example.value:.3g}</small>&ensp;{line}</div>')
    return "\n".join(parts) or "<p>No neuron fires.</p>"


_ATTENTION_SCRIPT = """
(() => {
  const data = JSON.parse(document.getElementById("attention-data").textContent);
  const layer = document.getElementById("attention-layer"), head = document.getElementById("attention-head");
  const tokens = [...document.querySelectorAll("#attention-tokens span")];
  let query = tokens.length - 1;
  const show = () => {
    const maps = data[layer.value];
    const rows = head.value < 0 ? maps.map((m) => m[query]) : [maps[head.value][query]];
    const mean = tokens.map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
    const top = Math.max(...mean, 1e-12);
    tokens.forEach((token, i) => {
      token.style.background = `rgba(0,114,178,${(0.75 * mean[i]) / top})`;
      token.classList.toggle("query", i === query);
    });
  };
  tokens.forEach((token, i) => {
    token.addEventListener("click", () => { query = i; show(); });
    token.addEventListener("focus", () => { query = i; show(); });
  });
  layer.value = data.length - 1;
  layer.addEventListener("change", show);
  head.addEventListener("change", show);
  show();
})();
"""


def attention_html(attention: TokenWeights) -> tuple[str, str]:
    """(html, script) of a heat map over tokens: choose a layer, a head and a token, see where it looks."""
    heads = attention.weights.shape[1]
    rounded = [[[[round(x, 3) for x in row] for row in head] for head in layer] for layer in attention.weights.tolist()]
    layers = "".join(f'<option value="{i}">layer {layer}</option>' for i, layer in enumerate(attention.layers))
    options = "".join(f'<option value="{i}">head {i}</option>' for i in range(heads))
    last = len(attention.tokens) - 1
    first_map = attention.weights[-1].mean(dim=0)[last]  # shown before any script runs
    top = max(first_map.max().item(), 1e-12)
    words = "".join(
        _span(text, weight / top, f' tabindex="0" data-token="{i}"')
        for i, (text, weight) in enumerate(zip(attention.tokens, first_map.tolist(), strict=True))
    )
    content = (
        "<p>Where a token looks: choose it, and a layer and a head. Each map is stretched to its largest weight.</p>"
        f'<p><select id="attention-layer" aria-label="layer">{layers}</select> <select id="attention-head" '
        f'aria-label="head"><option value="-1">mean of heads</option>{options}</select></p>'
        f'<div class="tokens" id="attention-tokens">{words}</div>'
        f'<script type="application/json" id="attention-data">{json.dumps(rounded)}</script>'
    )
    return content, _ATTENTION_SCRIPT


def steering_html(prompt: str, plain: str, steered: str, layer: int, neurons: Mapping[int, float]) -> str:
    """What a model wrote as it is and with neurons set, side by side."""
    named = ", ".join(f"neuron {neuron} = {value:g}" for neuron, value in neurons.items())
    rows = (("prompt", prompt), ("as it is", plain), (f"layer {layer}, {named}", steered))
    cells = [(html.escape(name), html.escape(text).replace("\n", "⏎\n").replace(" ", "·")) for name, text in rows]
    body = "".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in cells)
    return f'<div class="wide"><table class="text">{body}</table></div>'


__all__ = ["Firing", "ShownNeuron", "TokenWeights", "attention_html", "firing_html", "steering_html"]
