"""The ISTA step from the tokens in a square dictionary, by one product a token instead of three.

    relu(x + eta (x - x D^T) D - eta lambda) = relu(x (I + M) - eta lambda),   M = eta (D - D^T D)

M costs d^3, which at least d tokens repay; then the threshold is the bias of one product. In half precision I + M would
round M away beside the identity, so there it is relu(x + x M - eta lambda). With fewer tokens two products do,
x - x D^T first. M is built in each call, so no edit of D is ever missed; a caller may keep it (`kept_step`).

Shapes: n tokens, d width.
"""

import torch
from torch import Tensor

from ..conditions import WIDE, is_exporting
from ..linear import add_product, rectified_linear
from .descent_matrix import descent_matrix
from .shrink import shrink_sum


def step_matrix(dictionary: Tensor, step_size: float) -> Tensor:
    """I + eta (D - D^T D) (d, d) of D (d, d); in half precision D - D^T D."""
    step = descent_matrix(dictionary)
    if step.dtype not in WIDE:
        return step
    return torch.eye(*step.shape, dtype=step.dtype, device=step.device).add(step, alpha=step_size)


def folded_step(dictionary: Tensor, step_size: float, sparsity_weight: float) -> tuple[Tensor, Tensor]:
    """The step as relu(x W^T + b): W = (I + M)^T (d, d), rounded once from float64, and b = -eta lambda (d)."""
    wide = dictionary.double()
    step = step_size * (wide - wide.mT @ wide)  # M (d, d)
    step.diagonal().add_(1.0)
    return step.mT.to(dictionary.dtype), dictionary.new_full((len(step),), -step_size * sparsity_weight)


def is_worth_a_matrix(signal: Tensor, dictionary: Tensor, kept_step: Tensor | None) -> bool:
    """Whether the step is to be one product: the matrix is there, or so many tokens are that they repay it.

    An exported program serves any number of tokens, and so has the form for many.
    """
    return kept_step is not None or is_exporting() or signal[..., 0].numel() >= dictionary.shape[0]


def by_one_product(
    signal: Tensor, dictionary: Tensor, step_size: float, threshold: float, kept_step: Tensor | None, triton: bool
) -> Tensor:
    """The code (..., d) of a signal (..., d) after one step; threshold is eta lambda."""
    flat = signal.flatten(0, -2)  # (n, d)
    step = step_matrix(dictionary, step_size) if kept_step is None else kept_step
    if step.dtype in WIDE:
        return rectified_linear(flat, step.mT, flat.new_full((len(step),), -threshold)).view(signal.shape)
    return shrink_sum(flat, flat, step, step_size, threshold, triton).view(signal.shape)


def by_two_products(signal: Tensor, dictionary: Tensor, step_size: float, threshold: float, triton: bool) -> Tensor:
    """As `by_one_product`, for few tokens."""
    flat = signal.flatten(0, -2)  # (n, d)
    residual = add_product(flat, flat, dictionary, -1)  # x - x D^T
    return shrink_sum(flat, residual, dictionary, step_size, threshold, triton).view(signal.shape)


__all__ = ["by_one_product", "by_two_products", "folded_step", "is_worth_a_matrix", "step_matrix"]
