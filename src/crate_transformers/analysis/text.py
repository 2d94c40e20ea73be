"""What a model makes of text: the most selective neurons with the tokens that they fire on, attention over tokens.

Shapes: B sequences, L layers, K heads, N tokens.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..report.tokens import Firing, ShownNeuron, attention_html, components_html, firing_html
from ..report.viewer import Looked, View, view_html
from .architectures import unwrap
from .attention import num_layers_of, resolve_layer
from .features import colors_of
from .inside import look_inside
from .neurons import Neurons
from .tracing import eager_attention, trace

SHOWN_TOKENS = 64


class Decoder(Protocol):
    """What turns token ids into text: a tokenizer of transformers, say."""

    def decode(self, ids: list[int], /) -> str | list[str]: ...


@dataclass(frozen=True)
class TokenAttention:
    """Attention of one sequence: weights (L, K, N, N) float32 on the CPU, tokens (N) as text, layers from 0.

    Example:
        >>> TokenAttention(torch.zeros(2, 6, 3, 3), tokens=("a", "b", "c"), layers=(0, 1)).layers
        (0, 1)
    """

    weights: Tensor
    tokens: tuple[str, ...]
    layers: tuple[int, ...]


def token_texts(tokenizer: Decoder | None, ids: Sequence[int]) -> list[str]:
    """Each token as a reader would see it; without a tokenizer, its number."""
    return [f"[{i}]" if tokenizer is None else str(tokenizer.decode([i])) for i in ids]


def token_attention(
    model: nn.Module, input_ids: Tensor, tokenizer: Decoder | None = None, layers: Sequence[int] | None = None
) -> TokenAttention:
    """Attention of every layer and head over the tokens of one sequence (1, N).

    Raises:
        ValueError: more than one sequence; a layer that does not exist.

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> attention = token_attention(model, torch.tensor([[5, 7, 9]]), layers=[-1])
        >>> attention.weights.shape, attention.tokens
        (torch.Size([1, 6, 3, 3]), ('[5]', '[7]', '[9]'))
    """
    if input_ids.ndim != 2 or input_ids.shape[0] != 1:
        raise UserError(f"token_attention takes one sequence (1, num_tokens), got shape {tuple(input_ids.shape)}")
    num_layers = num_layers_of(model)
    chosen = tuple(resolve_layer(i, num_layers) for i in (range(num_layers) if layers is None else layers))
    record = trace(model, input_ids, ("attention",))
    weights = torch.stack([record.layers[i].get("attention")[0].float().cpu() for i in chosen])
    return TokenAttention(weights, tuple(token_texts(tokenizer, input_ids[0].tolist())), chosen)


@dataclass(frozen=True)
class TokenComponents:
    """Principal components of the subspace features of the tokens of one sequence, in one layer.

    Attributes:
        tokens: (N) as text. layer: from 0.
        colors: (N, 3) in [0, 1], three components as red, green and blue. explained: the fraction of each.

    Example:
        >>> TokenComponents(("a",), 0, torch.zeros(1, 3), (0.5, 0.25, 0.125)).explained[0]
        0.5
    """

    tokens: tuple[str, ...]
    layer: int
    colors: Tensor
    explained: tuple[float, ...]


def token_components(
    model: nn.Module, input_ids: Tensor, layer: int, tokenizer: Decoder | None = None
) -> TokenComponents:
    """Three principal components of W = U^T LN(Z) of the tokens of one sequence (1, N), all heads side by side.

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> token_components(model, torch.tensor([[5, 7, 9]]), layer=1).colors.shape
        torch.Size([3, 3])

    Source: as `joint_pca`, whose second fit it is.
    """
    projections = trace(model, input_ids, ("projections",)).layers[layer].get("projections")[0]  # (K, N, p)
    colors, explained = colors_of(projections.transpose(0, 1).flatten(1).double().cpu().numpy())
    tokens = tuple(token_texts(tokenizer, input_ids[0].tolist()))
    return TokenComponents(tokens, layer, torch.from_numpy(colors).float(), tuple(map(float, explained)))


def show_neurons(neurons: Neurons, tokenizer: Decoder | None, chosen: Sequence[int]) -> tuple[ShownNeuron, ...]:
    """The chosen neurons with their strongest tokens in context, as text.

    Raises:
        ValueError: a neuron that does not exist.
    """
    return tuple(
        ShownNeuron(
            neuron=neuron,
            fire_fraction=neurons.fire_fraction[neuron].item(),
            selectivity=neurons.selectivity[neuron].item(),
            mean_when_firing=neurons.mean_when_firing[neuron].item(),
            examples=tuple(
                Firing(value, tuple(token_texts(tokenizer, ids)), place) for value, ids, place in neurons.tokens(neuron)
            ),
        )
        for neuron in map(neurons.check, chosen)
    )


def neurons_html(neurons: Neurons, tokenizer: Decoder | None, chosen: Sequence[int]) -> str:
    """The chosen neurons, each with its statistics and its strongest tokens in context, as html."""
    return firing_html(show_neurons(neurons, tokenizer, chosen), neurons.num_tokens)


@dataclass(frozen=True, eq=False)
class TextLook:
    """What a model makes of a text.

    Attributes:
        neurons: all of one layer. shown: some of them, with the tokens that they fire on.
        attention: over the first tokens of the text; None where the inputs hold no token ids.
        view: attention and codes of these tokens in every layer, in few bits, for the page.
        components: of the subspace features of these tokens, in the layer of the neurons.
    """

    neurons: Neurons
    shown: tuple[ShownNeuron, ...]
    attention: TokenAttention | None
    view: View | None = None
    components: TokenComponents | None = None

    def to_dict(self) -> dict[str, Any]:
        """All but `view`, ready for JSON."""
        attention = None
        if self.attention is not None:
            attention = {**vars(self.attention), "weights": self.attention.weights.tolist()}
        components = None
        if self.components is not None:
            components = {**vars(self.components), "colors": self.components.colors.tolist()}
        return {
            "layer": self.neurons.layer,
            "num_tokens": self.neurons.num_tokens,
            "neurons": self.neurons.rows(),
            "shown": [asdict(neuron) for neuron in self.shown],
            "attention": attention,
            "components": components,
        }

    def sections(self, of: str = "") -> list[tuple[str, str]]:
        """(heading, html) of each part of a page; `of` is put after the headings."""
        layer = self.neurons.layer
        parts = [(f"The most selective neurons of layer {layer}", firing_html(self.shown, self.neurons.num_tokens))]
        if self.attention is not None and self.view is not None:
            shown = view_html(self.view, attention_html(self.attention))
            parts.append(("Attention over tokens and codes, layer by layer", shown))
        if self.components is not None:
            own = self.components
            shown = components_html(own.tokens, own.colors.tolist(), own.explained, own.layer)
            parts.append(("Components of the tokens", shown))
        return [(f"{heading}{of}", shown) for heading, shown in parts]


def look_at_text(
    model: nn.Module, neurons: Neurons, sequence: Tensor | None, tokenizer: Decoder | None, num_neurons: int
) -> TextLook:
    """The most selective neurons as text, and the attention over the first tokens.

    Args:
        neurons: of the whole text, as `find_neurons` gives them.
        sequence: (1, N) token ids without padding, of which the first 64 are looked at; or None.
        tokenizer: to show tokens as text; None shows their numbers. num_neurons: how many.
    """
    enough = min(0.5, 3 / neurons.num_tokens)  # a neuron that fired once or twice shows nothing
    chosen = neurons.most_selective(num_neurons, enough) or neurons.most_selective(num_neurons)
    shown = show_neurons(neurons, tokenizer, chosen)
    if sequence is None:
        return TextLook(neurons, shown, None)
    ids = sequence[:, :SHOWN_TOKENS]
    with eager_attention(unwrap(model)):
        attention = token_attention(model, ids, tokenizer)
        view = look_into_text(model, ids, attention.tokens)
        components = token_components(model, ids, neurons.layer, tokenizer)
    return TextLook(neurons, shown, attention, view, components)


def look_into_text(model: nn.Module, input_ids: Tensor, tokens: Sequence[str]) -> View | None:
    """Attention and codes of one sequence (1, N) in every layer, the last layer first, for a page; tokens: as text."""
    start = num_layers_of(model) - 1
    return look_inside(model, input_ids, [Looked("the first tokens", tokens=tuple(tokens))], start)


__all__ = [
    "Decoder",
    "TextLook",
    "TokenAttention",
    "TokenComponents",
    "look_at_text",
    "look_into_text",
    "neurons_html",
    "show_neurons",
    "token_attention",
    "token_components",
    "token_texts",
]
