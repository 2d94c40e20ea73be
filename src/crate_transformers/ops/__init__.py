"""The operators of the white box, on torch alone: each folder holds one, its equation first, its fast forms beside it.

    mssa           attention within subspaces, with one tensor as query, key and value
    tssa           compression by token statistics, with the tokens' membership in heads
    cbsa           compression by way of a few representatives
    ista           steps of iterative shrinkage and thresholding in a dictionary
    coding_rate    nats that a token set costs
    linear         products of tokens with a matrix

`equation.py` of a folder is the definition, and every other form is tested against it; forms.py chooses among them.
"""

from .cbsa import cbsa
from .coding_rate import half_logdet
from .forms import OPERATORS, Form, Operator, use_forms
from .ista import ista
from .linear import add_product, gelu_linear, linear, rectified_linear
from .mssa import attend, attend_first
from .tssa import causal_memberships, causal_tssa, memberships, tssa

__all__ = [
    "OPERATORS",
    "Form",
    "Operator",
    "add_product",
    "attend",
    "attend_first",
    "causal_memberships",
    "causal_tssa",
    "cbsa",
    "gelu_linear",
    "half_logdet",
    "ista",
    "linear",
    "memberships",
    "rectified_linear",
    "tssa",
    "use_forms",
]
