"""Linear maps, by torch's product or by oneDNN's, whichever the processor is faster with (see native/linear.py).

Shapes: k inputs, n outputs; any leading axes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..native import linear as native


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b (..., n) of x (..., k), weight (n, k), bias (n)."""
    if not native.can_multiply(x, weight):
        return F.linear(x, weight, bias)
    return native.linear(x.reshape(-1, x.shape[-1]), weight, bias, False).view(*x.shape[:-1], -1)


def rectified_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu(x W^T + b) (m, n) of x (m, k), weight (n, k), bias (n)."""
    if not native.can_multiply(x, weight):
        return F.relu(torch.addmm(bias, x, weight.mT), inplace=True)
    return native.linear(x, weight, bias, True)


def add_product(x: Tensor, left: Tensor, weight: Tensor, scale: float) -> Tensor:
    """x + scale left W^T (m, n) of x (m, n), left (m, k), weight (n, k)."""
    if not native.can_multiply(left, weight):
        return torch.addmm(x, left, weight.mT, alpha=scale)
    return torch.add(x, native.linear(left, weight, None, False), alpha=scale)


class Linear(nn.Linear):
    """torch's, with its product taken by `linear`; tools that ask for instances of nn.Linear find it."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


__all__ = ["Linear", "add_product", "linear", "rectified_linear"]
