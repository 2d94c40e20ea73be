"""The matrix of the descent in a square ISTA step, x A = (x - x D^T) D, with a gradient that costs one product.

    A = D - D^T D,   dL/dD = L_A - D (L_A + L_A^T)

Automatic differentiation of D^T D knows nothing of its two equal factors and takes D L_A and D L_A^T apart. In float32
on a CPU half of the symmetric D^T D is computed (descent_matrix.cpp).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..forms import Form, Operator
from ..linear import add_product
from . import descent_matrix_cpu, equation


class Dictionary(NamedTuple):
    """Arguments of `descent_matrix`."""

    dictionary: Tensor


_evaluate = Operator(
    equation.descent_matrix,
    Dictionary,
    Form(
        "cpu",
        lambda a: descent_matrix_cpu.descent_matrix(a.dictionary),
        lambda a: not torch.compiler.is_compiling() and descent_matrix_cpu.can_descend(a.dictionary),
        is_torch=False,
    ),
    # weights are transposed
    Form("torch", lambda a: add_product(a.dictionary, a.dictionary.mT, a.dictionary.mT, -1)),
)


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
