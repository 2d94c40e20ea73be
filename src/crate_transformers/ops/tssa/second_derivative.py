"""The gradient of TSSA as a graph of its own (`create_graph=True`: gradient penalties, second derivatives).

The fast forms have a first derivative alone. A graph of the gradient is that of the equation.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def gradients_of(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs of an equation from those of its results, with a graph; None: it has none."""
    inputs = tuple(tensor.view_as(tensor) for tensor in inputs)  # one may have been made of another: that is no part
    results = function(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    taken = [(result, grad) for result, grad in zip(results, gradients, strict=False) if grad is not None]
    outputs, grads = zip(*taken, strict=True)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in inputs)


__all__ = ["gradients_of"]
