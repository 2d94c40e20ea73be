"""Sparsity of codes, and the proximal step that makes them sparse (ops/ista/equation.py).

    z_next = relu(z + eta (x - z D^T) D - eta lambda)      [P1, eq. 13, tokens as rows]

is one step of the iterative shrinkage-thresholding algorithm (ISTA) for the non-negative LASSO
min_{z >= 0} 1/2 ||x - z D^T||^2 + lambda ||z||_1. CRATE starts it at z = x with a square dictionary; the
over-complete variants start it at zero.

Shapes: N tokens, d width, m atoms (columns) of the dictionary D (d, m).

[P1] arXiv 2306.01129.
"""

import torch
from torch import Tensor

from ..ops.ista.equation import ista_step


def sparsity(codes: Tensor, threshold: float = 0.0) -> Tensor:
    """Fraction of entries with |entry| > threshold: the non-zero fraction, the figure's y axis.

    The public helper called "sparsity" returns the fraction of *zeros*, which is one minus this.

    Args:
        codes: (..., N, d). threshold: >= 0.

    Returns:
        (...) fractions in [0, 1], float32; 0 where there is no entry.

    Example:
        >>> sparsity(torch.tensor([[0.0, 2.0, 0.0, -1.0]])).item()
        0.5
    """
    entries = codes.shape[-2] * codes.shape[-1]
    if entries == 0:
        return torch.zeros(codes.shape[:-2], device=codes.device)
    return (codes.abs() > threshold).sum(dim=(-2, -1)) / entries


__all__ = ["ista_step", "sparsity"]
