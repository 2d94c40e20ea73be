"""Text on a page: what makes neurons fire, in context; attention over tokens without scripts; what steering does.

Whatever a model or a user wrote is escaped.

Shapes: L layers, K heads, N tokens.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from .colors import ink_on


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


def _span(text: str, weight: float) -> str:
    """A token on a blue ground as strong as its weight, in [0, 1]."""
    shown = html.escape(text).replace("\n", "⏎")
    return f'<span style="background:rgba(0,114,178,{0.75 * weight:.2f})">{shown}</span>'


def firing_html(neurons: Sequence[ShownNeuron], num_tokens: int) -> str:
    """Neurons, each with its statistics over `num_tokens` tokens and its strongest tokens in context, as html."""
    parts: list[str] = []
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


def attention_html(attention: TokenWeights) -> str:
    """A heat map over tokens that needs no script: where the last token looks in the last layer, mean of the heads."""
    last_map = attention.weights[-1].mean(dim=0)[-1]  # (N,)
    top = max(last_map.max().item(), 1e-12)
    words = "".join(_span(text, weight / top) for text, weight in zip(attention.tokens, last_map.tolist(), strict=True))
    layer = attention.layers[-1]
    return (
        f"<p>Where the last token looks in layer {layer}, the mean of its heads, stretched to its largest weight.</p>"
        f'<div class="tokens">{words}</div>'
    )


def components_html(
    tokens: Sequence[str], colors: Sequence[Sequence[float]], explained: Sequence[float], layer: int
) -> str:
    """Tokens, each on the colour (N, 3), in [0, 1], of its principal components, with what these explain."""
    words = []
    for text, color in zip(tokens, colors, strict=True):
        ground = np.round(255 * np.asarray(color)).astype(np.uint8)
        told = ",".join(map(str, ground.tolist()))
        shown = html.escape(text).replace("\n", "⏎")
        words.append(f'<span style="background:rgb({told});color:{ink_on(ground)}">{shown}</span>')
    shares = ", ".join(f"{share:.0%}" for share in explained)
    return (
        f"<p>Three principal components of the subspace features of layer {layer}, of these tokens, as red, green and "
        f"blue; they hold {shares} of the variance. Tokens of one colour lie near each other.</p>"
        f'<div class="tokens">{"".join(words)}</div>'
    )


def steering_html(prompt: str, plain: str, steered: str, layer: int, neurons: Mapping[int, float]) -> str:
    """What a model wrote as it is and with neurons set, side by side."""
    named = ", ".join(f"neuron {neuron} = {value:g}" for neuron, value in neurons.items())
    rows = (("prompt", prompt), ("as it is", plain), (f"layer {layer}, {named}", steered))
    cells = [(html.escape(name), html.escape(text).replace("\n", "⏎\n").replace(" ", "·")) for name, text in rows]
    body = "".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in cells)
    return f'<div class="wide" tabindex="0" role="group" aria-label="texts"><table class="text">{body}</table></div>'


__all__ = ["Firing", "ShownNeuron", "TokenWeights", "attention_html", "components_html", "firing_html", "steering_html"]
