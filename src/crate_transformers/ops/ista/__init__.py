"""ISTA: the code of tokens in a dictionary, square or over-complete, and its forms."""

from typing import NamedTuple

from torch import Tensor

from ..forms import Form, Operator
from ..linear import linear
from . import equation
from .from_tokens import by_one_product, by_two_products, folded_step, is_worth_a_matrix, step_matrix
from .shrink import shrink


class Coding(NamedTuple):
    """Arguments of `ista`."""

    signal: Tensor
    dictionary: Tensor
    step_size: float
    sparsity_weight: float
    num_steps: int = 1
    from_zero: bool = False
    kept_step: Tensor | None = None
    triton: bool = False

    @property
    def threshold(self) -> float:
        return self.step_size * self.sparsity_weight


def _more_steps(code: Tensor, a: Coding) -> Tensor:
    for _ in range(a.num_steps - 1):
        residual = a.signal - linear(code, a.dictionary)
        code = shrink(code + a.step_size * linear(residual, a.dictionary.mT), a.threshold)
    return code


def _one_product(a: Coding) -> Tensor:
    code = by_one_product(a.signal, a.dictionary, a.step_size, a.threshold, a.kept_step, a.triton)
    return _more_steps(code, a)


def _two_products(a: Coding) -> Tensor:
    return _more_steps(by_two_products(a.signal, a.dictionary, a.step_size, a.threshold, a.triton), a)


def _from_zero(a: Coding) -> Tensor:
    first = shrink(a.step_size * linear(a.signal, a.dictionary.mT), a.threshold)  # z_0 D^T is zero
    return _more_steps(first, a)


ista = Operator(
    equation.ista,
    Coding,
    Form("from zero", _from_zero, lambda a: a.from_zero),
    Form(
        "one product",
        _one_product,
        lambda a: not a.from_zero and is_worth_a_matrix(a.signal, a.dictionary, a.kept_step),
    ),
    Form("two products", _two_products, lambda a: not a.from_zero),
)

__all__ = ["folded_step", "ista", "step_matrix"]
