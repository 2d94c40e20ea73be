"""CBSA on a CPU as an operator of torch, `crate::cbsa`; cbsa.cpp says how. Not differentiable.

Where not all scores are finite, the form of torch does the work.

Shapes: B batch, N tokens, K heads, p head_dim, m representatives.
"""

import math
from ctypes import CDLL, c_float, c_int64
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..conditions import is_plain, wants_gradient
from ..native.build import load
from ..native.tensors import address, num_threads
from .representatives import on_representatives

_SOURCE = Path(__file__).with_name("cbsa.cpp")


def _library() -> CDLL | None:
    return load(_SOURCE, ("cbsa",))


@torch.library.custom_op("crate::cbsa", mutates_args=(), device_types="cpu")
def cbsa(projected: Tensor, pooled: Tensor, step_tokens: Tensor, step_representatives: Tensor) -> Tensor:
    """eps A^T C (B, N, K, p) of W (B, N, K, p), R (B, K, m, p), eps and eta (K, 1, 1), float32."""
    w, pooled, eta, eps = (t.contiguous() for t in (projected, pooled, step_representatives, step_tokens))
    out, library = torch.empty_like(w), _library()
    assert library is not None
    sizes = map(c_int64, (*w.shape, pooled.shape[2]))
    inputs = map(address, (w, pooled, eta, eps))
    if library.cbsa(*inputs, *sizes, c_float(w.shape[-1] ** -0.5), num_threads(), address(out)):
        return out
    return on_representatives(w, pooled, step_tokens, step_representatives).contiguous()


@cbsa.register_fake
def _(projected: Tensor, pooled: Tensor, step_tokens: Tensor, step_representatives: Tensor) -> Tensor:
    return projected.new_empty(projected.shape)


# as torch counts the products: three of N tokens with m representatives, two of the m among themselves
@register_flop_formula(torch.ops.crate.cbsa)
def _flops(projected: torch.Size, pooled: torch.Size, *_: object, **__: object) -> int:
    batch, tokens, heads, width = projected
    many = pooled[2]
    return 2 * batch * heads * width * many * (3 * tokens + 2 * many)


@torch.compiler.assume_constant_result
def _fewest_heads() -> float:
    """How many heads make the operator worth while, one for each thread; no number is enough without a library."""
    return torch.get_num_threads() if _library() is not None else math.inf


def can_take(*tensors: Tensor) -> bool:
    """Whether the operator takes W (B, N, K, p) and the others: float32, on a CPU, no gradient, a head a thread."""
    if not all(map(is_plain, tensors)) or wants_gradient(*tensors) or tensors[0].numel() == 0:
        return False
    return tensors[0].shape[0] * tensors[0].shape[2] >= _fewest_heads()


__all__ = ["can_take", "cbsa"]
