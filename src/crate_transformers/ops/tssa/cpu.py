"""TSSA on a CPU as operators of torch, `crate::memberships` and `crate::tssa`; tssa.cpp says how.

A graph of the gradient (`create_graph=True`, a gradient penalty) is that of the equations.

Shapes: B batch, N tokens, K heads, p head_dim.
"""

from ctypes import CDLL, c_int64
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conditions import is_plain
from ..native.build import load
from ..native.tensors import address, num_threads
from . import equation
from .second_derivative import gradients_of

_SOURCE = Path(__file__).with_name("tssa.cpp")
_SYMBOLS = ("memberships", "memberships_backward", "step", "step_backward")


def _library() -> CDLL | None:
    return load(_SOURCE, _SYMBOLS)


def _run(symbol: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    """One function of tssa.cpp; the first input is W (B, N, K, p), and all lie without gaps."""
    library = _library()
    assert library is not None
    sizes = map(c_int64, inputs[0].shape)
    if not getattr(library, symbol)(*map(address, inputs), *sizes, num_threads(), *map(address, outputs)):
        raise MemoryError("no memory for the statistics of tokens")


@torch.library.custom_op("crate::memberships", mutates_args=(), device_types="cpu")
def memberships(projected: Tensor, temperature: Tensor) -> Tensor:
    """Pi (B, N, K) of W (B, N, K, p) and t (K, 1), float32."""
    projected, temperature = projected.contiguous(), temperature.contiguous()
    pi = projected.new_empty(projected.shape[:3])
    _run("memberships", (projected, temperature), (pi,))
    return pi


@memberships.register_fake
def _(projected: Tensor, temperature: Tensor) -> Tensor:
    return projected.new_empty(projected.shape[:3])


@torch.library.custom_op("crate::memberships_backward", mutates_args=(), device_types="cpu")
def memberships_backward(gradient: Tensor, projected: Tensor, temperature: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of W and t from that of Pi."""
    inputs = tuple(tensor.contiguous() for tensor in (projected, temperature, pi, gradient))
    d_projected, d_temperature = torch.empty_like(inputs[0]), pi.new_empty(len(pi), len(temperature))
    _run("memberships_backward", inputs, (d_projected, d_temperature))
    return d_projected, d_temperature.sum(dim=0)[:, None]


@memberships_backward.register_fake
def _(gradient: Tensor, projected: Tensor, temperature: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    return projected.new_empty(projected.shape), temperature.new_empty(temperature.shape)


@torch.library.custom_op("crate::tssa", mutates_args=(), device_types="cpu")
def tssa(projected: Tensor, pi: Tensor) -> Tensor:
    """- Pi W / (1 + s) (B, N, K, p) of W and Pi (B, N, K), float32."""
    inputs = projected.contiguous(), pi.contiguous()
    heads = torch.empty_like(inputs[0])
    _run("step", inputs, (heads,))
    return heads


@tssa.register_fake
def _(projected: Tensor, pi: Tensor) -> Tensor:
    return projected.new_empty(projected.shape)


@torch.library.custom_op("crate::tssa_backward", mutates_args=(), device_types="cpu")
def tssa_backward(gradient: Tensor, projected: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of W and Pi from that of the heads."""
    inputs = tuple(tensor.contiguous() for tensor in (projected, pi, gradient))
    gradients = torch.empty_like(inputs[0]), torch.empty_like(inputs[1])
    _run("step_backward", inputs, gradients)
    return gradients


@tssa_backward.register_fake
def _(gradient: Tensor, projected: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    return projected.new_empty(projected.shape), pi.new_empty(pi.shape)


def _remember_memberships(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs, output)


def _back_memberships(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    projected, temperature, pi = ctx.saved_tensors
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return gradients_of(equation.memberships, (projected, temperature), (gradient,))
    found: tuple[Tensor, Tensor] = torch.ops.crate.memberships_backward(gradient, projected, temperature, pi)
    return found


def _remember_step(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _back_step(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return gradients_of(equation.tssa, ctx.saved_tensors, (gradient,))
    found: tuple[Tensor, Tensor] = torch.ops.crate.tssa_backward(gradient, *ctx.saved_tensors)
    return found


memberships.register_autograd(_back_memberships, setup_context=_remember_memberships)
tssa.register_autograd(_back_step, setup_context=_remember_step)


@torch.compiler.assume_constant_result
def _fewest_samples() -> float:
    """How many samples make the operators worth while, one for each thread; no number is enough without a library."""
    return torch.get_num_threads() if _library() is not None else float("inf")


def can_take(projected: Tensor, other: Tensor) -> bool:
    """Whether the operators take W (B, N, K, p) and t or Pi: float32, on a CPU, at least one sample for each thread."""
    if projected.numel() == 0 or not is_plain(projected) or not is_plain(other):
        return False
    return projected.shape[0] >= _fewest_samples()


__all__ = ["can_take", "memberships", "tssa"]
