"""Multi-head subspace self-attention (MSSA): one step that compresses the tokens.

    W_k = Z U_k,   head_k = softmax(W_k W_k^T / sqrt(p)) W_k,   MSSA(Z) = [head_1 ... head_K] O + b     [P1, eq. 11]

One projection plays query, key and value. As in the public code, and unlike the paper's equation, the output projection
O is a matrix of its own with a bias, not U scaled, and the scores are scaled by p^-1/2.

Shapes: B batch, N tokens, M tokens attended to (N, or N and what a cache holds), d width, K heads, p head_dim.

[P1] arXiv 2306.01129.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def attention(queries: Tensor, keys: Tensor, mask: Tensor | None, scaling: float, causal: bool) -> Tensor:
    """softmax(s Q K^T + mask): who mixes whom.

    Args:
        queries: (B, K, N, p). keys: (B, K, M, p). mask: broadcastable to (B, K, N, M), numbers to add, or bool with
            True for what is seen. scaling: s. causal: query i sees key j <= i.

    Returns:
        (B, K, N, M), rows that sum to 1; 0 in the row of a query that sees nothing (padding on the left).
    """
    scores = scaling * (queries @ keys.mT)  # (B, K, N, M)
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    wide = torch.promote_types(scores.dtype, torch.float32)  # half precision is widened, float64 stays
    if mask is None:
        return scores.softmax(dim=-1, dtype=wide).to(queries.dtype)
    scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    blind = scores.isneginf().all(dim=-1, keepdim=True)  # (B, K, N, 1)
    return scores.masked_fill(blind, 0.0).softmax(dim=-1, dtype=wide).masked_fill(blind, 0.0).to(queries.dtype)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float,
    causal: bool,
    dropout: float = 0.0,
    triton: bool = False,
) -> Tensor:
    """softmax(s Q K^T + mask) V; in MSSA all three are W_k, the tokens within a subspace.

    Args:
        queries, keys, mask, scaling, causal: as in `attention`. values: (B, K, M, p).
        dropout: the fraction of the attention that is dropped. triton: whether Triton's form is asked for on a GPU.

    Returns:
        mixed tokens (B, N, K, p).

    Example:
        >>> tokens = torch.eye(2)[None, None]  # one head of width 2
        >>> attend(tokens, tokens, tokens, None, scaling=0.0, causal=True)[0, :, 0].tolist()  # means of what is seen
        [[1.0, 0.0], [0.5, 0.5]]
    """
    weights = F.dropout(attention(queries, keys, mask, scaling, causal), dropout)
    return (weights @ values).transpose(1, 2)


def mssa(tokens: Tensor, bases: Tensor, output: Tensor, bias: Tensor | None = None) -> Tensor:
    """MSSA(Z) (B, N, d) of tokens Z (B, N, d), bases U_k^T (K, p, d), output O^T (d, K p), bias b (d)."""
    projected = torch.einsum("bnd,kpd->bknp", tokens, bases)  # W_k
    mixed = attend(projected, projected, projected, None, bases.shape[1] ** -0.5, causal=False)
    return F.linear(mixed.flatten(2), output, bias)


__all__ = ["attend", "attention", "mssa"]
