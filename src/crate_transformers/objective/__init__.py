"""The theory as pure functions of tensors: coding rates, sparsity, one proximal step."""

from .coding_rate import (
    coding_rate,
    normalize_tokens,
    rate_reduction,
    sparse_rate_reduction,
    subspace_coding_rate,
)
from .sparsity import ista_step, sparsity
from .variational_rate import variational_coding_rate

__all__ = [
    "coding_rate",
    "ista_step",
    "normalize_tokens",
    "rate_reduction",
    "sparse_rate_reduction",
    "sparsity",
    "subspace_coding_rate",
    "variational_coding_rate",
]
