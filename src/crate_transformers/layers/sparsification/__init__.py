"""Blocks that sparsify, each a file, found by name (configuration/blocks.py)."""

from .block import SparsificationStep
from .ista import SparseCoding, Sparsification
from .kept_steps import kept_step_matrices
from .mlp import FeedForward
from .none import NoSparsification

__all__ = [
    "FeedForward",
    "NoSparsification",
    "SparseCoding",
    "Sparsification",
    "SparsificationStep",
    "kept_step_matrices",
]
