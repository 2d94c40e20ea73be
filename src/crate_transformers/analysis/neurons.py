"""Neurons of a sparsified layer: which tokens make them fire, how sparse and selective they are.

A neuron is one entry of the layer's code: a coordinate of ISTA's output, an atom of an over-complete dictionary, a
hidden unit of a baseline's MLP. It fires where its value is > 0.

    selectivity = (1 - (E a)^2 / E a^2) / (1 - 1 / n)   over the n tokens, a = max(value, 0)

is 0 for a neuron that answers to every token alike and 1 for one that answers to a single token.

Shapes: B batch, N tokens of a sequence, m neurons, k examples a neuron, c tokens of context on either side.

Source of the selectivity: Vinje and Gallant (2000), "lifetime sparseness".
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .attention import num_layers_of, resolve_layer
from .batches import ModelInputs
from .gathering import gather
from .tracing import Trace

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

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> found = find_neurons(model, torch.arange(5, 19).view(2, 7))
        >>> len(found), found.num_tokens, found.values.shape == (len(found), 10)
        (384, 14, True)
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


class NeuronTally:
    """Gathers what makes each neuron of a layer fire from traces of a text model, batch by batch.

    Args:
        layer: from 0. examples: k, >= 1. context: c, >= 0.

    Raises:
        ValueError: examples or context out of range.
    """

    records = ("codes",)

    def __init__(self, layer: int, examples: int = 10, context: int = 8) -> None:
        if examples < 1 or context < 0:
            raise UserError(f"examples must be >= 1 and context >= 0, got {examples} and {context}")
        self._layer, self._examples, self._context = layer, examples, context
        self._count = 0
        self._fired = self._total = self._squares = torch.zeros(())  # (m,), of all tokens so far
        self._top, self._around = torch.zeros(()), torch.zeros(())  # (m, k), (m, k, 2 c + 1)

    def update(self, trace: Trace) -> None:
        """Take in a batch.

        Raises:
            ValueError: inputs without token ids.
        """
        codes, windows = self._tokens(trace)
        if self._count == 0:
            neurons = codes.shape[-1]
            self._fired = self._total = self._squares = torch.zeros(neurons, dtype=torch.float64)
            self._top = torch.zeros(neurons, self._examples)
            self._around = torch.full((neurons, self._examples, windows.shape[-1]), NO_TOKEN)
        self._count += len(codes)
        self._fired = self._fired + (codes > 0).sum(dim=0)
        self._total = self._total + codes.double().sum(dim=0)
        self._squares = self._squares + codes.double().square().sum(dim=0)
        self._keep_largest(codes, windows)

    def _tokens(self, trace: Trace) -> tuple[Tensor, Tensor]:
        """(values >= 0 (n, m), ids around (n, 2 c + 1)) of the n tokens of a batch, without padding."""
        if "input_ids" not in trace.inputs:
            raise UserError("neurons are shown by their tokens: this needs a text model and input_ids")
        ids = trace.inputs["input_ids"].cpu()
        codes = trace.layers[self._layer].get("codes").float().clamp(min=0).cpu()  # (B, N, m)
        windows = _windows(ids, self._context)
        if trace.is_token is not None:
            real = trace.is_token.cpu()
            windows = _windows(ids.masked_fill(~real, NO_TOKEN), self._context)
            codes, windows = codes[real], windows[real]
        return codes.reshape(-1, codes.shape[-1]), windows.reshape(-1, windows.shape[-1])

    def _keep_largest(self, codes: Tensor, windows: Tensor) -> None:
        values, places = codes.topk(min(self._examples, len(codes)), dim=0)  # (k, m)
        top = torch.cat([self._top, values.T], dim=1)
        around = torch.cat([self._around, windows[places.T]], dim=1)
        order = top.sort(dim=1, descending=True, stable=True).indices[:, : self._examples]
        self._top = top.gather(1, order)
        self._around = around.gather(1, order[..., None].expand(-1, -1, around.shape[-1]))

    def result(self) -> Neurons:
        """The neurons on all tokens so far."""
        count = self._count
        mean, mean_square = self._total / count, self._squares / count
        ratio = torch.where(mean_square > 0, mean.square() / mean_square.clamp(min=1e-300), 1.0)
        selectivity = ((1 - ratio) / (1 - 1 / count)).clamp(0, 1) if count > 1 else torch.zeros_like(ratio)
        return Neurons(
            layer=self._layer,
            num_tokens=count,
            fire_fraction=(self._fired / count).float(),
            mean_when_firing=(self._total / self._fired.clamp(min=1)).float(),
            selectivity=selectivity.float(),
            values=self._top,
            contexts=self._around,
        )


def find_neurons(
    model: nn.Module,
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

    Example:
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> found = find_neurons(model, torch.arange(5, 19).view(2, 7), layer=0, examples=3, context=2)
        >>> found.fire_fraction.shape, found.contexts.shape
        (torch.Size([384]), torch.Size([384, 3, 5]))
    """
    tally = NeuronTally(resolve_layer(layer, num_layers_of(model)), examples, context)
    gather(model, inputs, [tally], batch_size=batch_size)
    return tally.result()


__all__ = ["NO_TOKEN", "NeuronTally", "Neurons", "check_neuron", "find_neurons"]
