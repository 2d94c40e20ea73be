"""MSSA: attention with one tensor as query, key and value, and its forms.

The library's own kernels, on a CPU (mssa.cpp) and on a GPU (triton.py), compute half of the symmetric scores and one
gradient. They take one tensor without a mask (causal or not) and without dropout. The rest is torch's.
"""

from typing import NamedTuple

from torch import Tensor

from ..forms import Form, Operator
from ..triton_here import runs_triton
from . import cpu, equation, torch_fused
from .first_tokens import attend_first

_MOST_FEATURES = 128  # of a head, on a GPU


class Mixing(NamedTuple):
    """Arguments of `attend`."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor | None
    scaling: float
    causal: bool
    dropout: float = 0.0
    triton: bool = False


def _is_one_tensor(a: Mixing) -> bool:
    one = a.queries is a.keys and a.keys is a.values
    return one and a.mask is None and not a.dropout and a.queries.numel() > 0


def _triton_takes(a: Mixing) -> bool:
    return a.triton and a.queries.shape[-1] <= _MOST_FEATURES and runs_triton(a.queries) and _is_one_tensor(a)


def _by_triton(a: Mixing) -> Tensor:
    from .triton import SubspaceFlashAttention  # Triton is an optional library

    mixed: Tensor = SubspaceFlashAttention.apply(a.queries, a.scaling, a.causal)
    return mixed


attend = Operator(
    equation.attend,
    Mixing,
    Form("triton", _by_triton, _triton_takes, is_torch=False),
    Form(
        "cpu",
        lambda a: cpu.mssa(a.queries, a.scaling, a.causal)[0],
        lambda a: _is_one_tensor(a) and cpu.can_mix(a.queries),
        is_torch=False,
    ),
    Form(
        "torch, twice differentiable",
        lambda a: torch_fused.attend_with_second_derivative(*a[:6]),
        lambda a: not a.dropout and torch_fused.can_fuse(a[:3], a.mask, a.causal),
    ),
    Form("torch", lambda a: torch_fused.attend(*a[:7])),
)

__all__ = ["attend", "attend_first"]
