"""TSSA: how far tokens belong to heads, and the step within the heads; both in a causal form too."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..conditions import is_wide, wants_gradient
from ..forms import Form, Operator
from . import cpu, equation, recomputed
from .equation import Statistics
from .recomputed import CausalMemberships


class Membership(NamedTuple):
    """Arguments of `memberships`."""

    projected: Tensor
    temperature: Tensor
    is_token: Tensor | None = None


class Shrinking(NamedTuple):
    """Arguments of `tssa`."""

    projected: Tensor
    pi: Tensor
    dropout: float = 0.0


class CausalMembership(NamedTuple):
    """Arguments of `causal_memberships`."""

    projected: Tensor
    temperature: Tensor
    bias: Tensor
    past: Tensor | None = None
    is_token: Tensor | None = None


class CausalShrinking(NamedTuple):
    """Arguments of `causal_tssa`."""

    projected: Tensor
    pi: Tensor
    past_weighted: Tensor | None = None
    past_mass: Tensor | None = None
    dropout: float = 0.0


def _last(values: Tensor) -> Tensor:
    return values.detach().sum(dim=1)


def _recomputed_memberships(a: CausalMembership) -> tuple[Tensor, Tensor]:
    return CausalMemberships.apply(a.projected, a.temperature, a.bias), _last(a.projected.square())


def _recomputed_tssa(a: CausalShrinking) -> tuple[Tensor, Tensor, Tensor]:
    weighted = torch.einsum("bnkp,bnk->bkp", a.projected.detach().square(), a.pi.detach())
    return recomputed.CausalShrinking.apply(a.projected, a.pi), weighted, _last(a.pi)


memberships = Operator(
    equation.memberships,
    Membership,
    Form(
        "cpu",
        lambda a: cpu.memberships(a.projected, a.temperature),
        lambda a: a.is_token is None and cpu.can_take(a.projected, a.temperature),
        is_torch=False,
    ),
    Form(
        "recomputed",
        lambda a: recomputed.Memberships.apply(a.projected, a.temperature),
        lambda a: a.is_token is None and is_wide(a.projected, a.temperature),
    ),
)
tssa = Operator(
    equation.tssa,
    Shrinking,
    Form(
        "cpu",
        lambda a: cpu.tssa(a.projected, a.pi),
        lambda a: not a.dropout and cpu.can_take(a.projected, a.pi),
        is_torch=False,
    ),
    Form(
        "recomputed",
        lambda a: recomputed.Shrinking.apply(a.projected, a.pi),
        lambda a: not a.dropout and wants_gradient(a.projected, a.pi) and is_wide(a.projected, a.pi),
    ),
)
causal_memberships = Operator(
    equation.causal_memberships,
    CausalMembership,
    Form(
        "recomputed",
        _recomputed_memberships,
        lambda a: (
            a.is_token is None
            and wants_gradient(*a[:3])
            and is_wide(a.projected, a.temperature, a.bias)
            and a.past is None
        ),
    ),
)
causal_tssa = Operator(
    equation.causal_tssa,
    CausalShrinking,
    Form(
        "recomputed",
        _recomputed_tssa,
        lambda a: not a.dropout and wants_gradient(*a[:2]) and is_wide(a.projected, a.pi) and a.past_mass is None,
    ),
)

__all__ = ["Statistics", "causal_memberships", "causal_tssa", "memberships", "tssa"]
