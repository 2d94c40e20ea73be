"""A linear map on a CPU by oneDNN, as an operator of torch, `crate::linear`, differentiable any number of times.

torch carries two libraries for products, MKL and oneDNN, and takes MKL's in float32. MKL uses the widest vectors of
Intel's processors alone: where another maker's has them, oneDNN's products take less than half of the time (about 370
against 175 GFLOP/s on two cores of an AMD EPYC, Zen 5). Everywhere else torch's own choice stands.

Shapes: m rows, k inputs, n outputs.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..conditions import is_autocast_on_cpu, is_plain, is_tensor_itself
from ..native.processor import describe_processor

_FEWEST_TERMS = 2**22  # m k n from which the faster product repays 25 microseconds a call


@torch.library.custom_op("crate::linear", mutates_args=(), device_types="cpu")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """x W^T + b, or an activation of it.

    Args:
        x: (m, k). weight: (n, k). bias: (n). All float32, m, k, n >= 1.
        activation: "none", "relu", or "gelu", which has no derivative here.

    Returns:
        (m, n), without gaps.
    """
    form = "none" if activation == "gelu" else ""  # which form of gelu: the exact one
    return torch.ops.mkldnn._linear_pointwise(_without_gaps(x), _without_gaps(weight), bias, activation, [], form)


def _without_gaps(matrix: Tensor) -> Tensor:
    """As oneDNN reads it fast: rows or columns one after another."""
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


@linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, activation = inputs
    assert activation != "gelu"
    ctx.save_for_backward(x, weight, output if activation == "relu" else None)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
    x, weight, output = ctx.saved_tensors
    if output is not None:
        gradient = torch.ops.aten.threshold_backward(gradient, output, 0)
    gradient = gradient.contiguous()
    for_x, for_weight, for_bias, _ = ctx.needs_input_grad
    return (
        torch.ops.crate.linear(gradient, weight.mT, None, "none") if for_x else None,
        torch.ops.crate.linear(gradient.mT, x.mT, None, "none") if for_weight else None,
        gradient.sum(0) if for_bias else None,
        None,
    )


linear.register_autograd(_backward, setup_context=_remember)


@register_flop_formula(torch.ops.crate.linear)
def _flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * x[0] * x[1] * weight[0]


@cache
def _is_ahead() -> bool:
    """Whether oneDNN uses vectors that MKL leaves."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not both:
        return False
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in describe_processor("vendor_id")


@torch.compiler.assume_constant_result
def _fewest_terms() -> float:
    return _FEWEST_TERMS if _is_ahead() and torch.backends.mkldnn.enabled else math.inf


def can_multiply(x: Tensor, weight: Tensor) -> bool:
    """Whether the operator takes x (..., k) and W (n, k), and is the faster one.

    `torch.backends.mkldnn.enabled = False` leaves it out.
    """
    if x.numel() * weight.shape[0] < _fewest_terms() or is_autocast_on_cpu():
        return False
    fits = x.shape[-1] == weight.shape[-1]  # otherwise torch says what is wrong
    return fits and is_tensor_itself(x, weight) and is_plain(x) and is_plain(weight)


__all__ = ["can_multiply", "linear"]
