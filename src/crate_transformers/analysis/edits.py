"""Change a model for as long as one looks at it: lambda and eta, heads that are off, neurons that have a value.

    with edited(model, Edit(sparsity_weights={0: 0.5}, heads_off={(1, 2)}, neurons={(3, 17): 0.0})):
        ...

Shapes: B batch, N tokens, K heads, p head_dim, m entries of a code.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..errors import UserError
from ..layers import SparseCoding
from .architectures import architecture_of, backbone_of
from .attention import resolve_layer
from .steering import steered


@dataclass(frozen=True)
class Edit:
    """What is changed in a model. Layers count from 0.

    Attributes:
        sparsity_weights: layer -> lambda, >= 0. step_sizes: layer -> eta, > 0. Both of layers whose block is ista.
        heads_off: (layer, head) pairs whose output is 0.
        neurons: (layer, neuron) -> its value on every token; 0 switches it off.
        tokens: places of the tokens that `neurons` is about; None is every token.

    Example:
        >>> Edit(heads_off=frozenset({(2, 0), (1, 3)})).first_layer
        1
    """

    sparsity_weights: Mapping[int, float] = field(default_factory=dict)
    step_sizes: Mapping[int, float] = field(default_factory=dict)
    heads_off: frozenset[tuple[int, int]] = frozenset()
    neurons: Mapping[tuple[int, int], float] = field(default_factory=dict)
    tokens: tuple[int, ...] | None = None

    @property
    def layers(self) -> set[int]:
        """The layers that are changed."""
        pairs = [*self.heads_off, *self.neurons]
        return {*self.sparsity_weights, *self.step_sizes, *(layer for layer, _ in pairs)}

    @property
    def first_layer(self) -> int | None:
        """The first layer that is changed; what is before it stays as it was. None where nothing is changed."""
        return min(self.layers, default=None)


@contextmanager
def edited(model: nn.Module, edit: Edit) -> Iterator[None]:
    """Within the scope, the model is changed; afterwards it is as it was found.

    Args:
        model: CRATE of any family, or a baseline.

    Raises:
        ValueError: a layer, head or neuron that does not exist; a lambda below 0 or an eta that is not above 0; a
            layer that has no lambda and eta, or heads that no module puts side by side (a tied output).

    Example:
        >>> import torch
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> with edited(model, Edit(sparsity_weights={11: 1e9})):  # nothing passes such a threshold
        ...     int(model(torch.rand(1, 3, 32, 32)).last_hidden_state.count_nonzero())
        0
    """
    backbone = backbone_of(model)
    architecture = architecture_of(backbone)
    layers = architecture.layers(backbone)
    for layer in edit.layers:
        resolve_layer(layer, len(layers))
    with ExitStack() as stack:
        for name, values in (("sparsity_weight", edit.sparsity_weights), ("step_size", edit.step_sizes)):
            for layer, value in values.items():
                stack.enter_context(_set(_coding_of(layers[layer], layer), name, value))
        heads = getattr(backbone.config, architecture.heads_field)
        for layer in sorted({layer for layer, _ in edit.heads_off}):
            off = [head for other, head in edit.heads_off if other == layer]
            stack.enter_context(_without_heads(architecture.heads_end(layers[layer]), layer, off, heads))
        for layer in sorted({layer for layer, _ in edit.neurons}):
            values = {neuron: value for (other, neuron), value in edit.neurons.items() if other == layer}
            stack.enter_context(steered(model, layer, values, edit.tokens))
        yield


def step_of(layer: nn.Module) -> tuple[float, float] | None:
    """(lambda, eta) of a layer whose block is ista; None of any other."""
    coding = getattr(getattr(layer, "sparsification", None), "coding", None)
    return (coding.sparsity_weight, coding.step_size) if isinstance(coding, SparseCoding) else None


def _coding_of(layer: Any, index: int) -> nn.Module:
    if step_of(layer) is None:
        raise UserError(f"layer {index} takes no step of ISTA: it has neither lambda nor eta")
    return layer.sparsification.coding


@contextmanager
def _set(coding: nn.Module, name: str, value: float) -> Iterator[None]:
    if not (value > 0 or (value == 0 and name == "sparsity_weight")) or value == float("inf"):
        what = "lambda must be a finite number >= 0" if name == "sparsity_weight" else "eta must be a finite number > 0"
        raise UserError(f"{what}, got {value}")
    before = getattr(coding, name)
    setattr(coding, name, float(value))
    try:
        yield
    finally:
        setattr(coding, name, before)


@contextmanager
def _without_heads(end: nn.Module | None, layer: int, off: list[int], heads: int) -> Iterator[None]:
    wrong = [head for head in off if not 0 <= head < heads]
    if wrong:
        raise UserError(f"there is no head {wrong[0]}: the model has {heads}, numbered 0 to {heads - 1}")
    if end is None:
        raise UserError(f"the heads of layer {layer} go back through their own bases: none can be switched off alone")

    def zero(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        by_head = arguments[0].unflatten(-1, (heads, -1)).clone()  # (B, N, K, p)
        by_head[..., off, :] = 0
        return (by_head.flatten(-2), *arguments[1:])

    handle = end.register_forward_pre_hook(zero)
    try:
        yield
    finally:
        handle.remove()


__all__ = ["Edit", "edited", "step_of"]
