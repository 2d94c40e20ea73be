"""The gradient of attention as a graph of its own (`create_graph=True`: gradient penalties, second derivatives).

The fused forms have a first derivative alone. Where a graph of the gradient is asked for, and only there, the gradient
is taken through the equation instead.

Shapes: B batch, K heads, N queries, M keys, p features.
"""

import torch
from torch import Tensor

from .equation import attend

Tokens = tuple[Tensor, Tensor, Tensor]  # queries (B, K, N, p), keys and values (B, K, M, p)


def graph_of_gradients(
    gradient: Tensor, tokens: Tokens, mask: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, ...]:
    """The gradients of queries, keys and values from that of the mixed tokens (B, N, K, p), with a graph."""
    views = tuple(x.view_as(x) for x in tokens)  # so that one tensor in three roles has three gradients
    queries, keys, values = (x if x.dtype == torch.float64 else x.float() for x in views)
    mixed = attend(queries, keys, values, mask, scaling, causal)
    return torch.autograd.grad(mixed, views, gradient.to(mixed.dtype), create_graph=True)


def sum_of_gradients(gradient: Tensor, tokens: Tokens, mask: Tensor | None, scaling: float, causal: bool) -> Tensor:
    """As `graph_of_gradients`, of one tensor in three roles."""
    first, second, third = graph_of_gradients(gradient, tokens, mask, scaling, causal)
    return first + second + third


__all__ = ["Tokens", "graph_of_gradients", "sum_of_gradients"]
