"""CBSA: representatives of the tokens, and the three steps by way of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..forms import Form, Operator
from . import equation
from .equation import extraction, representatives


class Contraction(NamedTuple):
    """Arguments of `cbsa`."""

    projected: Tensor
    pooled: Tensor
    step_tokens: Tensor
    step_representatives: Tensor


def _on_representatives(a: Contraction) -> Tensor:
    """Scalings and steps fall on the m representatives, not on N tokens and m x N scores."""
    scaling = a.projected.shape[-1] ** -0.5
    tokens = a.projected.transpose(1, 2)  # (B, K, N, p)
    attention = ((scaling * a.pooled) @ tokens.mT).softmax(dim=-1)  # A (B, K, m, N)
    moved = torch.addcmul(a.pooled, a.step_representatives, attention @ tokens)  # R'
    contracted = ((scaling * moved) @ moved.mT).softmax(dim=-1) @ moved  # C (B, K, m, p)
    return (attention.mT @ (a.step_tokens * contracted)).transpose(1, 2)


cbsa = Operator(equation.cbsa, Contraction, Form("on representatives", _on_representatives))

__all__ = ["cbsa", "extraction", "representatives"]
