"""Products of tokens with a matrix.

    y = x W^T + b,    y = relu(x W^T + b),    y = gelu(x W^T + b),    y = x + s L W^T

Shapes: k inputs, n outputs; tokens are rows, with any leading axes.
"""

import math

import torch
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b (..., n) of x (..., k), weight (n, k), bias (n).

    Example:
        >>> linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [-3.0, 1.0]])).tolist()
        [[3.0, -2.0]]
    """
    product = x @ weight.mT
    return product if bias is None else product + bias


def rectified_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """relu(x W^T + b) (..., n) of x (..., k), weight (n, k), bias (n).

    Example:
        >>> rectified_linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), torch.zeros(2)).tolist()
        [[3.0, 0.0]]
    """
    return torch.relu(linear(x, weight, bias))


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """gelu(x W^T + b) (..., n), gelu(y) = y Phi(y), of x (..., k), weight (n, k), bias (n).

    Example:
        >>> round(gelu_linear(torch.ones(1, 1), torch.ones(1, 1)).item(), 4)
        0.8413
    """
    product = linear(x, weight, bias)
    return product * (1 + torch.erf(product / math.sqrt(2))) / 2


def add_product(x: Tensor, left: Tensor, weight: Tensor, scale: float) -> Tensor:
    """x + s L W^T (m, n) of x (m, n), left (m, k), weight (n, k), scale s.

    Example:
        >>> add_product(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), 0.5).tolist()
        [[1.5, -1.0]]
    """
    return x + scale * linear(left, weight)


__all__ = ["add_product", "gelu_linear", "linear", "rectified_linear"]
