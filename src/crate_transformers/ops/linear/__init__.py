"""Products of tokens with a matrix: by torch's product or by oneDNN's, whichever the processor is faster with."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..forms import Form, Operator
from . import equation, onednn


class Product(NamedTuple):
    """Arguments of `linear` and `rectified_linear`."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None


class Sum(NamedTuple):
    """Arguments of `add_product`."""

    x: Tensor
    left: Tensor
    weight: Tensor
    scale: float


def _by_onednn(a: Product, rectify: bool) -> Tensor:
    product = onednn.linear(a.x.reshape(-1, a.x.shape[-1]), a.weight, a.bias, rectify)
    return product.view(*a.x.shape[:-1], -1)


def _rectified_by_torch(a: Product) -> Tensor:
    assert a.bias is not None
    product = torch.addmm(a.bias, a.x, a.weight.mT)  # the bias costs no pass of its own
    return F.relu(product, inplace=True)


linear = Operator(
    equation.linear,
    Product,
    Form("oneDNN", lambda a: _by_onednn(a, False), lambda a: onednn.can_multiply(a.x, a.weight), is_torch=False),
    Form("torch", lambda a: F.linear(*a)),
)
rectified_linear = Operator(
    equation.rectified_linear,
    Product,
    Form("oneDNN", lambda a: _by_onednn(a, True), lambda a: onednn.can_multiply(a.x, a.weight), is_torch=False),
    Form("torch", _rectified_by_torch, lambda a: a.x.ndim == 2),
)
add_product = Operator(
    equation.add_product,
    Sum,
    Form(
        "oneDNN",
        lambda a: torch.add(a.x, onednn.linear(a.left, a.weight, None, False), alpha=a.scale),
        lambda a: onednn.can_multiply(a.left, a.weight),
        is_torch=False,
    ),
    Form("torch", lambda a: torch.addmm(a.x, a.left, a.weight.mT, alpha=a.scale)),
)

__all__ = ["add_product", "linear", "rectified_linear"]
