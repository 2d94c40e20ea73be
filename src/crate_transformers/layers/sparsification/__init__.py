"""Blocks that sparsify, each a file, found by name (configuration/blocks.py)."""

from .block import SparsificationStep
from .ista import SparseCoding, Sparsification
from .kept_steps import kept_step_matrices

__all__ = ["SparseCoding", "Sparsification", "SparsificationStep", "kept_step_matrices"]
