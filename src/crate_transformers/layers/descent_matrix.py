"""The matrix of the descent in a square ISTA step, x A = (x - x D^T) D, with a gradient that costs one product.

    A = D - D^T D,   dL/dD = L_A - D (L_A + L_A^T)

Automatic differentiation of D^T D knows nothing of its two equal factors and takes D L_A and D L_A^T apart. In float32
on a CPU half of the symmetric D^T D is computed (native/descent_matrix.cpp).
"""

from typing import Any

import torch
from torch import Tensor

from ..native import descent_matrix as native
from .linear import add_product


def _evaluate(dictionary: Tensor) -> Tensor:
    if not torch.compiler.is_compiling() and native.can_descend(dictionary):
        return native.descent_matrix(dictionary)
    return add_product(dictionary, dictionary.mT, dictionary.mT, -1)  # weights are transposed


class _DescentMatrix(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(dictionary: Tensor) -> Tensor:
        return _evaluate(dictionary)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (dictionary,) = ctx.saved_tensors
        narrow = dictionary.to(gradient.dtype)  # autocast gives a narrower gradient than the dictionary
        return add_product(gradient, narrow, gradient + gradient.mT, -1).to(dictionary.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (dictionary,) = ctx.saved_tensors
        half = dictionary.mT @ tangent
        return tangent - half - half.mT


def descent_matrix(dictionary: Tensor) -> Tensor:
    """D - D^T D (d, d) of a square dictionary D (d, d), differentiable any number of times, in both modes."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # dynamo takes no Function with a jvp
        return _DescentMatrix.apply(dictionary)
    return _evaluate(dictionary)


__all__ = ["descent_matrix"]
