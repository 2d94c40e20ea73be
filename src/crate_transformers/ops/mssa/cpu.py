"""MSSA on a CPU as an operator of torch, `crate::mssa`; mssa.cpp says what it computes and how.

An operator, so that compilation, counting of operations and shape inference treat it like torch's own. Where the
tokens are too far apart in length for the form of mssa.cpp, or not finite, torch's fused attention does the work.
Tokens in half precision are widened, and the result is rounded once: scores, weights and sums are float32 throughout.
A graph of the gradient (`create_graph=True`, a gradient penalty) is that of the definition.

Shapes: B batch, K heads, N tokens, p features.
"""

import math
from ctypes import CDLL, c_float
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..conditions import HALF, is_plain
from ..native.build import load
from ..native.tensors import address, heads_of, num_threads, without_gaps
from .second_derivative import sum_of_gradients

_SOURCE = Path(__file__).with_name("mssa.cpp")
_fused_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _library() -> CDLL | None:
    return load(_SOURCE, ("mssa_forward", "mssa_backward"))


@torch.library.custom_op("crate::mssa", mutates_args=(), device_types="cpu")
def mssa(w: Tensor, scaling: float, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Attention with one tensor as query, key and value.

    Args:
        w: (B, K, N, p) in float32, bfloat16 or float16, with N, p >= 1. scaling: of the scores. causal: token i sees
            j <= i.

    Returns:
        mixed tokens (B, N, K, p); what the backward pass needs of the rows (B, K, N), float32; and which of the two
        forms gave it (one truth value).
    """
    batch, heads, num_tokens, width = w.shape
    wide = _widened(w)
    mixed = wide.new_empty(batch, num_tokens, heads, width)
    rows = wide.new_empty(batch, heads, num_tokens)
    library = _library()
    assert library is not None
    own = library.mssa_forward(
        *heads_of(wide), c_float(scaling), int(causal), num_threads(), address(mixed), address(rows)
    )
    if not own:
        plain, rows = _fused_forward(wide, wide, wide, 0.0, causal, scale=scaling)
        mixed = plain.transpose(1, 2).contiguous()
    return mixed.to(w.dtype), rows.contiguous(), torch.tensor(bool(own))


def _widened(w: Tensor) -> Tensor:
    """As C++ reads it: float32, the last axis without gaps."""
    return without_gaps(w.float())


@mssa.register_fake
def _(w: Tensor, scaling: float, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, num_tokens, width = w.shape
    mixed = w.new_empty(batch, num_tokens, heads, width)
    rows = w.new_empty(batch, heads, num_tokens, dtype=torch.float32)
    return mixed, rows, w.new_empty((), dtype=torch.bool)


@torch.library.custom_op("crate::mssa_backward", mutates_args=(), device_types="cpu")
def mssa_backward(
    gradient: Tensor, w: Tensor, mixed: Tensor, rows: Tensor, own: Tensor, scaling: float, causal: bool
) -> Tensor:
    """The gradient of w, as (B, N, K, p), from that of the mixed tokens; the rest as `mssa` took and gave it."""
    wide, mixed, gradient = _widened(w), mixed.float(), gradient.float()
    if own:
        library = _library()
        assert library is not None
        gradient, result = gradient.contiguous(), torch.empty_like(mixed)
        sizes = (*heads_of(wide), c_float(scaling), int(causal), num_threads())
        if library.mssa_backward(*sizes, address(gradient), address(mixed), address(rows), address(result)):
            return result.to(w.dtype)
        raise MemoryError("no memory for the backward pass of attention")
    three = _fused_backward(
        gradient.transpose(1, 2), wide, wide, wide, mixed.transpose(1, 2), rows, 0.0, causal, scale=scaling
    )  # fmt: skip
    return (three[0] + three[1] + three[2]).to(w.dtype).transpose(1, 2).contiguous()


@mssa_backward.register_fake
def _(gradient: Tensor, w: Tensor, mixed: Tensor, rows: Tensor, own: Tensor, scaling: float, causal: bool) -> Tensor:
    return torch.empty_like(mixed)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    w, ctx.scaling, ctx.causal = inputs
    ctx.save_for_backward(w, *output)
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, gradient: Tensor, *_: object) -> tuple[Tensor, None, None]:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        w = ctx.saved_tensors[0]
        return sum_of_gradients(gradient, (w, w, w), None, ctx.scaling, ctx.causal), None, None
    grad = torch.ops.crate.mssa_backward(gradient, *ctx.saved_tensors, ctx.scaling, ctx.causal)
    return grad.transpose(1, 2), None, None


mssa.register_autograd(_backward, setup_context=_remember)


# as torch counts its fused attention: two products forward, five backward
@register_flop_formula(torch.ops.crate.mssa)
def _forward_flops(shape: torch.Size, *_: object, **__: object) -> int:
    batch, heads, num_tokens, width = shape
    return 2 * 2 * batch * heads * num_tokens**2 * width


@register_flop_formula(torch.ops.crate.mssa_backward)
def _backward_flops(gradient: torch.Size, shape: torch.Size, *_: object, **__: object) -> int:
    return 5 * _forward_flops(shape) // 2


def is_built() -> bool:
    """Whether the compiled code is there; it is compiled by the first question."""
    return _library() is not None


@torch.compiler.assume_constant_result
def _fewest_heads() -> float:
    """How many heads make the operator worth while, one for each thread; no number is enough without a library."""
    return torch.get_num_threads() if is_built() else math.inf


def can_mix(w: Tensor) -> bool:
    """Whether the operator takes tokens (B, K, N, p): on a CPU, not float64, at least one head for each thread."""
    return is_plain(w, (torch.float32, *HALF)) and w.shape[0] * w.shape[1] >= _fewest_heads()


__all__ = ["can_mix", "is_built", "mssa"]
