"""The end of an ISTA step, relu(x + eta y - eta lambda), in as few passes over the tokens as torch allows.

Shapes: n tokens, d width.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from ..forms import Form, Operator
from ..linear import add_product
from ..triton_here import runs_triton
from . import equation


class Shrinkage(NamedTuple):
    """Arguments of `shrink_sum`."""

    x: Tensor
    left: Tensor
    right: Tensor
    step_size: float
    threshold: float
    triton: bool = False


def shrink(moved: Tensor, threshold: float) -> Tensor:
    """The proximal step relu(moved - threshold), written over `moved`."""
    return F.relu(moved.sub_(threshold), inplace=True)


def _by_triton(a: Shrinkage) -> Tensor:
    from .triton import ShrinkSum  # Triton is an optional library

    code: Tensor = ShrinkSum.apply(a.x, a.left @ a.right, a.step_size, a.threshold)
    return code


shrink_sum = Operator(
    equation.shrink_sum,
    Shrinkage,
    Form("triton", _by_triton, lambda a: a.triton and a.x.numel() > 0 and runs_triton(a.x), is_torch=False),
    Form("in place", lambda a: shrink(add_product(a.x, a.left, a.right.mT, a.step_size), a.threshold)),
)

__all__ = ["shrink", "shrink_sum"]
