"""TSSA: how far tokens belong to heads, and the step within the heads; both in a causal form too."""

from typing import NamedTuple

from torch import Tensor

from ..forms import Operator
from . import equation
from .equation import Statistics, no_past


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
    past: Tensor
    is_token: Tensor | None = None


class CausalShrinking(NamedTuple):
    """Arguments of `causal_tssa`."""

    projected: Tensor
    pi: Tensor
    past_weighted: Tensor
    past_mass: Tensor
    dropout: float = 0.0


memberships = Operator(equation.memberships, Membership)
tssa = Operator(equation.tssa, Shrinking)
causal_memberships = Operator(equation.causal_memberships, CausalMembership)
causal_tssa = Operator(equation.causal_tssa, CausalShrinking)

__all__ = ["Statistics", "causal_memberships", "causal_tssa", "memberships", "no_past", "tssa"]
