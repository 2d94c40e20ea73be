"""CBSA: representatives of the tokens, and the three steps by way of them."""

from typing import NamedTuple

from torch import Tensor

from ..forms import Form, Operator
from . import cpu, equation
from .equation import extraction, representatives
from .representatives import on_representatives


class Contraction(NamedTuple):
    """Arguments of `cbsa`."""

    projected: Tensor
    pooled: Tensor
    step_tokens: Tensor
    step_representatives: Tensor


cbsa = Operator(
    equation.cbsa,
    Contraction,
    Form("cpu", lambda a: cpu.cbsa(*a), lambda a: cpu.can_take(*a), is_torch=False),
    Form("on representatives", lambda a: on_representatives(*a)),
)

__all__ = ["cbsa", "extraction", "representatives"]
