"""Contract-and-broadcast self-attention (CBSA): compression by way of a few representatives, in time O(N m d).

    W_k = Z U_k,   R_k = m representatives pooled from W_k
    A_k = softmax(R_k W_k^T / sqrt(p)),   R'_k = R_k + eta_k A_k W_k                                       extraction
    C_k = softmax(R'_k R'_k^T / sqrt(p)) R'_k                                                            contraction
    CBSA(Z)_k = eps_k A_k^T C_k                                                                            broadcast

with learned steps eta_k (`step_rep` of the public code) and eps_k (`step_x`), whose signs are free. Columns of A are
not normalised again.

As published, the tokens that are pooled are the first N - 1, in the order [class, patch 0, patch 1, ...]: every patch
lies one cell late in the grid, and the last one is missing. The published weights were trained so. "patches" pools the
patches.

Shapes: B batch, N tokens (the class token and s x s patches), K heads, p head_dim, m representatives.

Source: arXiv 2509.16875.
"""

import math

import torch
from torch import Tensor

from ...errors import UserError


def representatives(projected: Tensor, grid: tuple[int, int], first: bool = True) -> Tensor:
    """R: averages over the cells of a grid (adaptive average pooling).

    Args:
        projected: W (B, N, K, p), the class token first. grid: (rows, columns) of cells. first: pool the first N - 1
            tokens, as published; False: the patches.

    Returns:
        (B, K, m, p), row by row.

    Raises:
        ValueError: N - 1 is no square.

    Example:
        >>> representatives(torch.arange(5.0).reshape(1, 5, 1, 1), (1, 1)).item()  # the mean of 0, 1, 2, 3
        1.5
    """
    batch, num_tokens, heads, width = projected.shape
    side = math.isqrt(num_tokens - 1)
    if side * side != num_tokens - 1 or side == 0:
        raise UserError(f"cbsa pools a square grid of patches, got {num_tokens - 1} patches: pass a square image")
    pooled = projected[:, :-1] if first else projected[:, 1:]
    cells = pooled.permute(0, 2, 3, 1).reshape(batch, heads * width, side, side)
    cells = torch.nn.functional.adaptive_avg_pool2d(cells, grid)
    return cells.reshape(batch, heads, width, -1).mT


def extraction(projected: Tensor, pooled: Tensor) -> Tensor:
    """A = softmax(R W^T / sqrt(p)) (B, K, m, N) of W (B, N, K, p) and R (B, K, m, p); rows sum to 1."""
    return (pooled @ projected.permute(0, 2, 3, 1) * projected.shape[-1] ** -0.5).softmax(dim=-1)


def cbsa(projected: Tensor, pooled: Tensor, step_tokens: Tensor, step_representatives: Tensor) -> Tensor:
    """eps A^T C, the three steps within the heads.

    Args:
        projected: W (B, N, K, p). pooled: R (B, K, m, p). step_tokens: eps (K, 1, 1). step_representatives: eta
            (K, 1, 1).

    Returns:
        (B, N, K, p).

    Example:
        >>> w = torch.ones(1, 5, 1, 2)  # all tokens are one: so are representatives, and A is 1 / 5
        >>> cbsa(w, representatives(w, (1, 1)), torch.ones(1, 1, 1), torch.zeros(1, 1, 1))[0, 0, 0].tolist()
        [0.20000000298023224, 0.20000000298023224]
    """
    scaling = projected.shape[-1] ** -0.5
    tokens = projected.transpose(1, 2)  # (B, K, N, p)
    attention = extraction(projected, pooled)  # A (B, K, m, N)
    moved = pooled + step_representatives * (attention @ tokens)  # R'
    contracted = (moved @ moved.mT * scaling).softmax(dim=-1) @ moved  # C (B, K, m, p)
    return (step_tokens * (attention.mT @ contracted)).transpose(1, 2)


__all__ = ["cbsa", "extraction", "representatives"]
