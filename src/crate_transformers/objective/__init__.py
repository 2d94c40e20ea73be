"""The theory as pure functions of tensors: coding rates, also of classes, sparsity, a proximal step, SimDINO's loss."""

from .class_rates import ClassRates, class_coding_rates, rate_reduction_loss, rate_reduction_of_classes
from .coding_rate import (
    coding_rate,
    normalize_tokens,
    rate_reduction,
    sparse_rate_reduction,
    subspace_coding_rate,
)
from .distillation import DistillationTerms, coding_rate_distillation, distillation_terms
from .sparsity import hoyer_sparsity, ista_step, sparsity
from .variational_rate import variational_coding_rate

__all__ = [
    "ClassRates",
    "DistillationTerms",
    "class_coding_rates",
    "coding_rate",
    "coding_rate_distillation",
    "distillation_terms",
    "hoyer_sparsity",
    "ista_step",
    "normalize_tokens",
    "rate_reduction",
    "rate_reduction_loss",
    "rate_reduction_of_classes",
    "sparse_rate_reduction",
    "sparsity",
    "subspace_coding_rate",
    "variational_coding_rate",
]
