"""Text on a page: what makes neurons fire, in context; attention over tokens; what steering does.

Shapes: B sequences, L layers, K heads, N tokens.
"""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..objective.coding_rate import RateMode
from .attention import num_layers_of, resolve_layer
from .batches import ModelInputs, as_arguments
from .inspection import Baseline, Inspection, measure_plates, measure_with_baseline, write_inspection
from .neurons import Neurons, find_neurons
from .output import write_csv
from .tracing import trace

SHOWN_TOKENS = 64


@dataclass(frozen=True)
class TokenAttention:
    """Attention of one sequence: weights (L, K, N, N) float32 on the CPU, tokens (N) as text, layers from 0."""

    weights: Tensor
    tokens: tuple[str, ...]
    layers: tuple[int, ...]


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token as a reader would see it; without a tokenizer, its number."""
    return [f"[{i}]" if tokenizer is None else tokenizer.decode([i]) for i in ids]


def token_attention(
    model: Any, input_ids: Tensor, tokenizer: Any = None, layers: Sequence[int] | None = None
) -> TokenAttention:
    """Attention of every layer and head over the tokens of one sequence (1, N).

    Raises:
        ValueError: more than one sequence; a layer that does not exist.
    """
    if input_ids.ndim != 2 or input_ids.shape[0] != 1:
        raise UserError(f"token_attention takes one sequence (1, num_tokens), got shape {tuple(input_ids.shape)}")
    num_layers = num_layers_of(model)
    chosen = tuple(resolve_layer(i, num_layers) for i in (range(num_layers) if layers is None else layers))
    record = trace(model, input_ids, ("attention",))
    weights = torch.stack([record.layers[i].get("attention")[0].float().cpu() for i in chosen])
    return TokenAttention(weights, tuple(token_texts(tokenizer, input_ids[0].tolist())), chosen)


def _span(text: str, weight: float, extra: str = "") -> str:
    """A token on a blue ground as strong as its weight, in [0, 1]."""
    shown = html.escape(text).replace("\n", "⏎")
    return f'<span style="background:rgba(0,114,178,{0.75 * weight:.2f})"{extra}>{shown}</span>'


def neurons_html(neurons: Neurons, tokenizer: Any, chosen: Sequence[int]) -> str:
    """The chosen neurons, each with its statistics and its strongest tokens in context, as html."""
    parts = []
    for neuron in chosen:
        examples = neurons.tokens(neuron)
        parts.append(
            f"<h3>Neuron {neuron}</h3><p class='meta'>fires on {100 * neurons.fire_fraction[neuron].item():.2f} % of "
            f"{neurons.num_tokens} tokens; selectivity {neurons.selectivity[neuron].item():.3f}; mean when firing "
            f"{neurons.mean_when_firing[neuron].item():.3g}</p>"
        )
        largest = max((value for value, _, _ in examples), default=1.0)
        for value, ids, place in examples:
            words = token_texts(tokenizer, ids)
            line = "".join(_span(w, value / largest if i == place else 0.0) for i, w in enumerate(words))
            parts.append(f'<div class="tokens"><small>{value:.3g}</small>&ensp;{line}</div>')
    return "\n".join(parts) or "<p>No neuron fires.</p>"


def attention_html(attention: TokenAttention) -> tuple[str, str]:
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
    script = """
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
    return content, script


def steering_html(prompt: str, plain: str, steered: str, layer: int, neurons: Mapping[int, float]) -> str:
    """What a model wrote as it is and with neurons set, side by side."""
    named = ", ".join(f"neuron {neuron} = {value:g}" for neuron, value in neurons.items())
    rows = (("prompt", prompt), ("as it is", plain), (f"layer {layer}, {named}", steered))
    cells = [(html.escape(name), html.escape(text).replace("\n", "⏎\n").replace(" ", "·")) for name, text in rows]
    body = "".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in cells)
    return f'<div class="wide"><table class="text">{body}</table></div>'


@dataclass
class _Keeper:
    """Passes token ids on and keeps the first sequence."""

    stream: Any
    kept: list[Tensor] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        for item in [self.stream] if isinstance(self.stream, Tensor | Mapping) else self.stream:
            arguments = as_arguments(item)
            if not self.kept and "input_ids" in arguments:
                length = SHOWN_TOKENS
                if "attention_mask" in arguments:
                    length = min(length, int(arguments["attention_mask"][0].sum()))
                self.kept.append(arguments["input_ids"][:1, :length].clone())
            yield item


def inspect_text(
    model: Any,
    inputs: ModelInputs,
    output: str | Path,
    mode: RateMode = "official",
    *,
    tokenizer: Any = None,
    name: str = "model",
    on: str = "the given text",
    layer: int | None = None,
    num_neurons: int = 12,
    baseline: Baseline | None = None,
    batch_size: int = 16,
) -> Inspection:
    """Measure a text model on a stream, and show its neurons and its attention: table, figures, one html page.

    Args:
        model, inputs, mode, batch_size: as in `measure_layers`. The inputs are gone through twice, so give a list or a
            loader, not a generator.
        output: the folder to write. tokenizer: to show tokens as text; None shows their numbers.
        layer: whose neurons; None is the last. num_neurons: how many, the most selective first.
        baseline: (name, model, its inputs), drawn in the same figures.

    Raises:
        ValueError: as in `measure_layers`; a layer that does not exist.
    """
    chosen_layer = resolve_layer(-1 if layer is None else layer, num_layers_of(model))
    keeper = _Keeper(inputs)
    measures = measure_with_baseline(name, model, keeper, mode, baseline, batch_size=batch_size)
    plates = measure_plates(measures, on)
    neurons = find_neurons(model, inputs, chosen_layer, batch_size=batch_size)
    enough = min(0.5, 3 / neurons.num_tokens)  # a neuron that fired once or twice shows nothing
    chosen = neurons.most_selective(num_neurons, enough) or neurons.most_selective(num_neurons)
    sections = [(f"The most selective neurons of layer {chosen_layer}", neurons_html(neurons, tokenizer, chosen))]
    script = ""
    if keeper.kept:
        content, script = attention_html(token_attention(model, keeper.kept[0], tokenizer))
        sections.append(("Attention over tokens", content))
    first = measures[name]
    facts = {
        "model": f"{name} ({first.model})",
        "data": on,
        "sequences": first.num_samples,
        "tokens": neurons.num_tokens,
        "mode": mode,
        "epsilon": first.epsilon,
    }
    folder = Path(output)
    files = write_inspection(folder, f"Inside {name}", facts, measures, plates, sections, script)
    files.append(write_csv(folder / "neurons.csv", neurons.rows()))
    return Inspection(first, tuple(plates), tuple(files))


__all__ = [
    "TokenAttention",
    "attention_html",
    "inspect_text",
    "neurons_html",
    "steering_html",
    "token_attention",
    "token_texts",
]
