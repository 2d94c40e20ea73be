"""CBSA: representatives of the tokens, and the three steps by way of them."""

from typing import NamedTuple

from torch import Tensor

from ..forms import Operator
from . import equation
from .equation import extraction, representatives


class Contraction(NamedTuple):
    """Arguments of `cbsa`."""

    projected: Tensor
    pooled: Tensor
    step_tokens: Tensor
    step_representatives: Tensor


cbsa = Operator(equation.cbsa, Contraction)

__all__ = ["cbsa", "extraction", "representatives"]
