"""The operators of the white box, on torch alone: each folder holds one, its equation first, its fast forms beside it.

    mssa           attention within subspaces, with one tensor as query, key and value
    ista           steps of iterative shrinkage and thresholding in a dictionary
    coding_rate    nats that a token set costs
    linear         products of tokens with a matrix

`equation.py` of a folder is the definition, and every other form is tested against it; forms.py chooses among them.
"""

from .coding_rate import half_logdet
from .forms import OPERATORS, Form, Operator, use_forms
from .ista import ista
from .linear import add_product, linear, rectified_linear
from .mssa import attend, attend_first

__all__ = [
    "OPERATORS",
    "Form",
    "Operator",
    "add_product",
    "attend",
    "attend_first",
    "half_logdet",
    "ista",
    "linear",
    "rectified_linear",
    "use_forms",
]
