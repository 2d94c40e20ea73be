"""Neurons of a sparsified layer: which tokens make them fire, how sparse and selective they are, what setting one does.

A neuron is one entry of the layer's code: a coordinate of ISTA's output, an atom of an over-complete dictionary, a
hidden unit of a baseline's MLP. It fires where its value is > 0.

    selectivity = (1 - (E a)^2 / E a^2) / (1 - 1 / n)   over the n tokens, a = max(value, 0)

is 0 for a neuron that answers to every token alike and 1 for one that answers to a single token.

Shapes: B batch, N tokens of a sequence, m neurons, k examples a neuron, c tokens of context on either side.

Source of the selectivity: Vinje and Gallant (2000), "lifetime sparseness".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .architectures import architecture_of, backbone_of
from .attention import num_layers_of, resolve_layer
from .batches import ModelInputs
from .tracing import trace_batches

NO_TOKEN = -1


@dataclass(frozen=True)
class Neurons:
    """The neurons of one layer on a text; all tensors on the CPU.

    Attributes:
        layer: from 0. num_tokens: tokens seen, without padding.
        fire_fraction: (m,) fraction of tokens with value > 0. mean_when_firing: (m,) mean of the values > 0, or 0.
        selectivity: (m,) in [0, 1] (see the top of this file); 0 for a neuron that never fires.
        values: (m, k) largest values, in falling order; 0 where a neuron fires on fewer tokens.
        contexts: (m, k, 2 c + 1) token ids around each of them, itself in the middle; NO_TOKEN beyond the sequence.
    """

    layer: int
    num_tokens: int
    fire_fraction: Tensor
    mean_when_firing: Tensor
    selectivity: Tensor
    values: Tensor
    contexts: Tensor

    def __len__(self) -> int:
        return len(self.fire_fraction)

    def check(self, neuron: int) -> int:
        """The neuron's number, or a ValueError that says how many there are."""
        return check_neuron(neuron, len(self))

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a neuron: fire_fraction, mean_when_firing, selectivity, largest value."""
        columns = (self.fire_fraction, self.mean_when_firing, self.selectivity, self.values[:, 0])
        names = ("fire_fraction", "mean_when_firing", "selectivity", "largest_value")
        table = torch.stack([column.double() for column in columns], dim=1).tolist()
        return [{"neuron": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(table)]

    def most_selective(self, count: int, min_fire_fraction: float = 0.0) -> list[int]:
        """Neurons of highest selectivity among those that fire on more than a fraction of the tokens."""
        score = torch.where(self.fire_fraction > min_fire_fraction, self.selectivity, -1.0)
        order = score.argsort(descending=True, stable=True)[:count].tolist()
        return [neuron for neuron in order if score[neuron] >= 0]

    def tokens(self, neuron: int) -> list[tuple[float, list[int], int]]:
        """Examples of a neuron: (value, token ids of the context, place of the firing token among them).

        Raises:
            ValueError: a neuron that does not exist.
        """
        neuron = self.check(neuron)
        middle = self.contexts.shape[-1] // 2
        examples = []
        for value, ids in zip(self.values[neuron].tolist(), self.contexts[neuron].tolist(), strict=True):
            if value > 0:
                before = sum(token != NO_TOKEN for token in ids[:middle])
                examples.append((value, [token for token in ids if token != NO_TOKEN], before))
        return examples


def check_neuron(neuron: int, count: int) -> int:
    """The neuron's number, or a ValueError."""
    if not 0 <= neuron < count:
        raise UserError(f"there is no neuron {neuron}: the layer has {count}, numbered 0 to {count - 1}")
    return neuron


def _windows(input_ids: Tensor, context: int) -> Tensor:
    """(B, N) -> (B, N, 2 c + 1), the ids around every token."""
    padded = nn.functional.pad(input_ids, (context, context), value=NO_TOKEN)
    return padded.unfold(1, 2 * context + 1, 1)


def find_neurons(
    model: Any,
    inputs: ModelInputs,
    layer: int = -1,
    examples: int = 10,
    context: int = 8,
    batch_size: int = 16,
) -> Neurons:
    """Stream a text through a model and gather what makes each neuron of a layer fire; memory does not grow with it.

    Args:
        model: a text model that `trace_batches` takes.
        inputs: token ids (B, N), a dictionary with an attention_mask, or an iterable of those.
        layer: from 0, negative from the end. examples: k, >= 1. context: c, >= 0.

    Raises:
        ValueError: a layer that does not exist; a model or inputs without token ids.
    """
    layer = resolve_layer(layer, num_layers_of(model))
    if examples < 1 or context < 0:
        raise UserError(f"examples must be >= 1 and context >= 0, got {examples} and {context}")
    count = 0
    fired = total = squares = torch.zeros(())
    top, around = torch.zeros(()), torch.zeros(())
    for record in trace_batches(model, inputs, ("codes",), batch_size=batch_size):
        if "input_ids" not in record.inputs:
            raise UserError("neurons are shown by their tokens: this needs a text model and input_ids")
        ids = record.inputs["input_ids"].cpu()
        codes = record.layers[layer].get("codes").float().clamp(min=0).cpu()  # (B, N, m)
        windows = _windows(ids, context)
        if record.is_token is not None:
            real = record.is_token.cpu()
            windows = _windows(ids.masked_fill(~real, NO_TOKEN), context)
            codes, windows = codes[real], windows[real]
        codes, windows = codes.reshape(-1, codes.shape[-1]), windows.reshape(-1, windows.shape[-1])
        if count == 0:
            fired = total = squares = torch.zeros(codes.shape[-1], dtype=torch.float64)
            top = torch.zeros(codes.shape[-1], examples)
            around = torch.full((codes.shape[-1], examples, 2 * context + 1), NO_TOKEN)
        count += len(codes)
        fired = fired + (codes > 0).sum(dim=0)
        total = total + codes.double().sum(dim=0)
        squares = squares + codes.double().square().sum(dim=0)
        values, places = codes.topk(min(examples, len(codes)), dim=0)  # (k, m)
        merged = torch.cat([top, values.T], dim=1)
        merged_around = torch.cat([around, windows[places.T]], dim=1)
        order = merged.sort(dim=1, descending=True, stable=True).indices[:, :examples]
        top = merged.gather(1, order)
        around = merged_around.gather(1, order[..., None].expand(-1, -1, merged_around.shape[-1]))
    mean, mean_square = total / count, squares / count
    ratio = torch.where(mean_square > 0, mean.square() / mean_square.clamp(min=1e-300), 1.0)
    selectivity = ((1 - ratio) / (1 - 1 / count)).clamp(0, 1) if count > 1 else torch.zeros_like(ratio)
    return Neurons(
        layer=layer,
        num_tokens=count,
        fire_fraction=(fired / count).float(),
        mean_when_firing=(total / fired.clamp(min=1)).float(),
        selectivity=selectivity.float(),
        values=top,
        contexts=around,
    )


@contextmanager
def steered(model: Any, layer: int, neurons: Mapping[int, float]) -> Iterator[None]:
    """Within the scope, a layer's neurons have the given values on every token.

    Args:
        model: CRATE of any family, or a baseline. layer: from 0, negative from the end.
        neurons: neuron -> its value; a sparse code is >= 0, but any number is set.

    Raises:
        ValueError: a layer or neuron that does not exist.

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", vocab_size=97, num_hidden_layers=2)).eval()
        >>> with steered(model, -1, {5: 3.0}):
        ...     ids = model.generate(torch.tensor([[1, 2]]), max_new_tokens=3, do_sample=False)
        >>> ids.shape
        torch.Size([1, 5])
    """
    backbone = backbone_of(model)
    architecture = architecture_of(backbone)
    layers = architecture.layers(backbone)
    layer = resolve_layer(layer, len(layers))
    width = architecture.code_width(layers[layer])
    places = [check_neuron(neuron, width) for neuron in neurons]

    def set_neurons(module: nn.Module, arguments: Any, code: Tensor) -> Tensor:
        code = code.clone()
        code[..., places] = torch.tensor([float(v) for v in neurons.values()], dtype=code.dtype, device=code.device)
        return code

    handle = architecture.coding(layers[layer]).register_forward_hook(set_neurons, prepend=True)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def steer_and_generate(
    model: Any, input_ids: Tensor, layer: int, neurons: Mapping[int, float], **generation: Any
) -> tuple[Tensor, Tensor]:
    """What a language model writes as it is, and with neurons set.

    Args:
        input_ids: (B, N). layer, neurons: as in `steered`. generation: arguments of `generate`, e.g. max_new_tokens;
            the same random numbers are used for both.

    Returns:
        (as it is, steered), token ids (B, N + new) each.

    Raises:
        ValueError: a model that does not generate; a layer or neuron that does not exist.
    """
    if not hasattr(model, "generate") or not getattr(model, "can_generate", lambda: False)():
        raise UserError(f"{type(model).__name__} does not generate text: load a causal language model")
    seed = int(torch.randint(2**31, ()))

    def run() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return model.generate(input_ids.to(model.device), **generation).cpu()

    plain = run()
    with steered(model, layer, neurons):
        return plain, run()


__all__ = ["NO_TOKEN", "Neurons", "check_neuron", "find_neurons", "steer_and_generate", "steered"]
