"""Inputs of any shape as a stream of small batches of model arguments: bounded memory whatever comes in.

Shapes: B batch, C channels, H x W pixels, T tokens.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import UserError

ModelInputs = Tensor | Mapping[str, Any] | Iterable[Any]


def as_arguments(inputs: Tensor | Mapping[str, Any]) -> dict[str, Tensor]:
    """One batch as named tensors: a float tensor is pixel_values (B, C, H, W), an integer one input_ids (B, T)."""
    if isinstance(inputs, Tensor):
        return {"pixel_values" if inputs.is_floating_point() else "input_ids": inputs}
    if isinstance(inputs, Mapping):
        return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    if isinstance(inputs, tuple | list) and inputs and isinstance(inputs[0], Tensor | Mapping):
        return as_arguments(inputs[0])  # (images, labels) of a torchvision loader
    raise UserError(
        f"expected a tensor, a dictionary of tensors, or an iterable of those as inputs, got {type(inputs).__name__}"
    )


def _stream(inputs: ModelInputs) -> Iterable[Any]:
    return [inputs] if isinstance(inputs, Tensor | Mapping) else inputs


@dataclass
class KeptSamples:
    """Inputs as they are, once, of which some samples are kept on the way.

    Attributes:
        inputs: what is passed on. places: which samples to keep, from 0; those beyond the inputs are left out.
        kept: their tensors by name, each (...) of one sample, by place; filled while this is gone through.
    """

    inputs: ModelInputs
    places: Sequence[int]
    kept: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        start, missing = 0, set(self.places)
        for item in _stream(self.inputs):
            if missing:
                arguments = as_arguments(item)
                size = len(next(iter(arguments.values())))
                for place in sorted(missing & set(range(start, start + size))):
                    self.kept[place] = {name: value[place - start].clone() for name, value in arguments.items()}
                    missing.remove(place)
                start += size
            yield item

    def of(self, name: str) -> Tensor | None:
        """The kept samples of one input, such as "pixel_values", in the order of `places`; None where there is none."""
        found = [self.kept[place][name] for place in self.places if name in self.kept.get(place, {})]
        return torch.stack(found) if found else None


def model_batches(model: PreTrainedModel, inputs: ModelInputs, batch_size: int) -> Iterator[dict[str, Tensor]]:
    """Cut inputs into batches of at most `batch_size` samples, on the model's device, with arguments that it takes.

    Args:
        inputs: a tensor batch, a dictionary of model inputs (labels and other extras are dropped), or an iterable of
            those, e.g. a data loader, which is read once and never held.

    Raises:
        ValueError: inputs of another kind, without a sample, or with nothing that the model takes.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    taken = set(inspect.signature(model.forward).parameters) - {"labels"}
    num_samples = 0
    for item in _stream(inputs):
        arguments = {name: value for name, value in as_arguments(item).items() if name in taken}
        if not arguments:
            raise UserError(f"{type(model).__name__} takes none of the given inputs: expected {model.main_input_name}")
        size = next(iter(arguments.values())).shape[0]
        for start in range(0, size, batch_size):
            num_samples += min(batch_size, size - start)
            yield {name: _on(model, value[start : start + batch_size]) for name, value in arguments.items()}
    if num_samples == 0:
        raise UserError("there is no sample to look at: the inputs are empty")


def _on(model: PreTrainedModel, value: Tensor) -> Tensor:
    value = value.to(model.device)
    if value.is_floating_point() and value.dtype == torch.float64:
        value = value.float()
    return value.to(model.dtype) if value.is_floating_point() else value


__all__ = ["KeptSamples", "ModelInputs", "as_arguments", "model_batches"]
