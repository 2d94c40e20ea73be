"""Coding rates of many small token sets on a CPU; coding_rate.cpp says how. Not differentiable."""

from ctypes import c_float

import torch
from torch import Tensor

from .build import load
from .tensors import at, heads_of, is_plain, threads, without_gaps

_MOST_FEATURES = 128  # as coding_rate.cpp; wider matrices are LAPACK's


@torch.library.custom_op("crate::half_logdet_gram", mutates_args=(), device_types="cpu")
def half_logdet_gram(w: Tensor, scale: float, unit: bool) -> Tensor:
    """1/2 logdet(I + scale W^T W) of each token set, in nats.

    Args:
        w: (B, K, N, p) float32, 1 <= p <= 128. unit: scale each token to length one before.

    Returns:
        (B, K).

    Raises:
        torch.linalg.LinAlgError: a matrix beside which float32 rounds the identity away.
    """
    w = without_gaps(w)
    rates = w.new_empty(w.shape[:2])
    library = load("coding_rate")
    assert library is not None
    if not library.half_logdet_gram(*heads_of(w), c_float(scale), int(unit), threads(), at(rates)):
        raise torch.linalg.LinAlgError("rounding to float32 eats the identity of I + scale W^T W")
    return rates


@half_logdet_gram.register_fake
def _(w: Tensor, scale: float, unit: bool) -> Tensor:
    return w.new_empty(w.shape[:2])


@torch.compiler.assume_constant_result
def _is_built() -> bool:
    return load("coding_rate") is not None


def can_rate(w: Tensor) -> bool:
    """Whether the operator takes tokens (..., N, p): float32, on a CPU, no gradient wanted, N >= p, p <= 128."""
    needs_gradient = torch.is_grad_enabled() and w.requires_grad
    return is_plain(w) and not needs_gradient and 0 < w.shape[-1] <= min(w.shape[-2], _MOST_FEATURES) and _is_built()


__all__ = ["can_rate", "half_logdet_gram"]
