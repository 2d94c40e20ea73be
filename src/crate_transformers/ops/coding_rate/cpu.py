"""Coding rates of many small token sets on a CPU; coding_rate.cpp says how. Not differentiable."""

from ctypes import CDLL, c_float
from pathlib import Path

import torch
from torch import Tensor

from ..conditions import is_plain, wants_gradient
from ..native.build import load
from ..native.tensors import address, heads_of, num_threads, without_gaps

_SOURCE = Path(__file__).with_name("coding_rate.cpp")
_MOST_FEATURES = 128  # as coding_rate.cpp; wider matrices are LAPACK's


def _library() -> CDLL | None:
    return load(_SOURCE, ("half_logdet_gram",))


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
    library = _library()
    assert library is not None
    if not library.half_logdet_gram(*heads_of(w), c_float(scale), int(unit), num_threads(), address(rates)):
        raise torch.linalg.LinAlgError("rounding to float32 eats the identity of I + scale W^T W")
    return rates


@half_logdet_gram.register_fake
def _(w: Tensor, scale: float, unit: bool) -> Tensor:
    return w.new_empty(w.shape[:2])


@torch.compiler.assume_constant_result
def _is_built() -> bool:
    return _library() is not None


def can_rate(w: Tensor) -> bool:
    """Whether the operator takes tokens (..., N, p): float32, on a CPU, no gradient wanted, N >= p, p <= 128."""
    if not is_plain(w) or wants_gradient(w):
        return False
    return 0 < w.shape[-1] <= min(w.shape[-2], _MOST_FEATURES) and _is_built()


__all__ = ["can_rate", "half_logdet_gram"]
