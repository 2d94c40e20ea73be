"""Products of tokens with a matrix: by torch's product or by oneDNN's, whichever the processor is faster with."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..conditions import is_wide, wants_gradient
from ..forms import Form, Operator
from . import equation, onednn


class Product(NamedTuple):
    """Arguments of `linear`, `rectified_linear` and `gelu_linear`."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None


class Sum(NamedTuple):
    """Arguments of `add_product`."""

    x: Tensor
    left: Tensor
    weight: Tensor
    scale: float


def _by_onednn(a: Product, activation: str) -> Tensor:
    product = onednn.linear(a.x.reshape(-1, a.x.shape[-1]), a.weight, a.bias, activation)
    return product.view(*a.x.shape[:-1], -1)


def _rectified_by_torch(a: Product) -> Tensor:
    assert a.bias is not None
    product = torch.addmm(a.bias, a.x, a.weight.mT)  # the bias costs no pass of its own
    return F.relu(product, inplace=True)


def _has_gradient(a: Product) -> bool:
    return wants_gradient(*(part for part in a if part is not None))


linear = Operator(
    equation.linear,
    Product,
    Form("oneDNN", lambda a: _by_onednn(a, "none"), lambda a: onednn.can_multiply(a.x, a.weight), is_torch=False),
    Form("torch", lambda a: F.linear(*a)),
)
rectified_linear = Operator(
    equation.rectified_linear,
    Product,
    Form("oneDNN", lambda a: _by_onednn(a, "relu"), lambda a: onednn.can_multiply(a.x, a.weight), is_torch=False),
    Form("torch", _rectified_by_torch, lambda a: a.x.ndim == 2),
)
gelu_linear = Operator(
    equation.gelu_linear,
    Product,
    Form(
        "oneDNN",
        lambda a: _by_onednn(a, "gelu"),
        lambda a: onednn.can_multiply(a.x, a.weight) and not _has_gradient(a),
        is_torch=False,
    ),
    Form(  # a result that nobody else holds is overwritten
        "torch, in place",
        lambda a: torch.ops.aten.gelu_(linear(*a)),
        lambda a: not _has_gradient(a) and is_wide(a.x, a.weight) and not torch.compiler.is_compiling(),
    ),
    Form("torch", lambda a: F.gelu(linear(*a))),
)
add_product = Operator(
    equation.add_product,
    Sum,
    Form(
        "oneDNN",
        lambda a: torch.add(a.x, onednn.linear(a.left, a.weight, None, "none"), alpha=a.scale),
        lambda a: onednn.can_multiply(a.left, a.weight),
        is_torch=False,
    ),
    Form("torch", lambda a: torch.addmm(a.x, a.left, a.weight.mT, alpha=a.scale)),
)

__all__ = ["add_product", "gelu_linear", "linear", "rectified_linear"]
