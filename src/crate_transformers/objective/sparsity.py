"""Sparsity of codes, and the proximal step that makes them sparse (ops/ista/equation.py).

    z_next = relu(z + eta (x - z D^T) D - eta lambda)      [P1, eq. 13, tokens as rows]

is one step of the iterative shrinkage-thresholding algorithm (ISTA) for the non-negative LASSO
min_{z >= 0} 1/2 ||x - z D^T||^2 + lambda ||z||_1. CRATE starts it at z = x with a square dictionary; the
over-complete variants start it at zero.

Shapes: N tokens, d width, m atoms (columns) of the dictionary D (d, m).

[P1] arXiv 2306.01129.
"""

import math

import torch
from torch import Tensor

from ..errors import UserError
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


def hoyer_sparsity(codes: Tensor) -> Tensor:
    """Hoyer's sparseness of each token's code, (sqrt(m) - ||z||_1 / ||z||_2) / (sqrt(m) - 1), meaned over the tokens.

    1 for a code with a single entry that is not 0, 0 for one whose entries are all of one size. It does not depend on
    the scale, and needs no entry to be exactly 0: activations of GELU, of which none is, can be compared with codes of
    ISTA, where the non-zero fraction says "all".

    Args:
        codes: (..., N, m), m >= 2. Computed in float32 (float64 when given).

    Returns:
        (...) values in [0, 1]; a code that is 0 counts as 1, and 1 where there is no token.

    Raises:
        ValueError: codes of one entry.

    Example:
        >>> hoyer_sparsity(torch.tensor([[0.0, 0.0, 3.0, 0.0], [2.0, -2.0, 2.0, 2.0]])).item()
        0.5

    Source: Hoyer 2004, Non-negative matrix factorization with sparseness constraints, JMLR 5.
    """
    if codes.ndim < 2 or codes.shape[-1] < 2:
        raise UserError(f"codes must be (..., tokens, entries) of 2 entries or more, got shape {tuple(codes.shape)}")
    values = hoyer_by_token(codes)
    return values.mean(dim=-1) if values.shape[-1] else values.new_ones(values.shape[:-1])


def hoyer_by_token(codes: Tensor) -> Tensor:
    """Hoyer's sparseness (..., N) of each code (..., N, m)."""
    codes = codes if codes.dtype == torch.float64 else codes.float()
    root = math.sqrt(codes.shape[-1])
    largest = codes.abs().amax(dim=-1, keepdim=True)
    scaled = codes / largest.masked_fill(largest == 0, 1)  # squares that neither overflow nor vanish
    length = torch.linalg.vector_norm(scaled, dim=-1)
    ratio = scaled.abs().sum(dim=-1) / length.masked_fill(length == 0, 1)
    return torch.where(length == 0, 1.0, (root - ratio) / (root - 1)).clamp(0, 1)


__all__ = ["hoyer_by_token", "hoyer_sparsity", "ista_step", "sparsity"]
