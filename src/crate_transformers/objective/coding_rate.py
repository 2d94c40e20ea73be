"""Coding rates of token sets, in nats.

    R(Z)      = 1/2 logdet(I + d / (N eps^2) Z Z^T)                      [P1, eq. 3; Z here has tokens as rows]
    R^c(Z; U) = sum_k 1/2 logdet(I + p / (N eps^2) (Z U_k) (Z U_k)^T)    [P1, eq. 5]
    Delta R   = R(Z) - R^c(Z; U)                                         [P1, eq. 6]
    sparse rate reduction = Delta R - lambda ||Z||_0                     [P1, eq. 1]

Shapes: B... any leading axes, N tokens, d width, K heads (subspaces), p width of a subspace.

[P1] arXiv 2306.01129. Where we differ: tokens are rows; `mode="official"` of `subspace_coding_rate` reproduces the
public measuring script (tokens of each head scaled to unit length, eps = 0.1), `mode="paper"` is the formula above.
"""

import math
from typing import Literal

from torch import Tensor

from ..errors import UserError
from ..ops.coding_rate import half_logdet, normalize_tokens
from .sparsity import sparsity

RateMode = Literal["official", "paper"]


def _rate(tokens: Tensor, epsilon: float, unit: bool) -> Tensor:
    """The coding rate of tokens (..., N, d), as they are or scaled to unit length."""
    if not epsilon > 0:
        raise UserError(f"epsilon must be positive, got {epsilon}")
    num_tokens, width = tokens.shape[-2:]
    return half_logdet(tokens, width / (max(num_tokens, 1) * epsilon**2), unit)  # no token costs nothing


def coding_rate(tokens: Tensor, epsilon: float = 0.1) -> Tensor:
    """Coding rate R(Z) = 1/2 logdet(I + d / (N eps^2) Z^T Z): nats to code the token set up to precision epsilon.

    Args:
        tokens: (..., N, d) with N >= 0 and d >= 1. Computed in float32 (float64 when given).
        epsilon: the precision, > 0.

    Returns:
        (...) rates in nats, >= 0; 0 for no token. Differentiable.

    Raises:
        ValueError: fewer than two axes, or epsilon <= 0.

    Example:
        >>> bool(coding_rate(torch.zeros(5, 3)) == 0)
        True

    Source: arXiv 2306.01129, eq. 3.
    """
    if tokens.ndim < 2:
        raise UserError(f"tokens must be (..., num_tokens, width), got shape {tuple(tokens.shape)}")
    return _rate(tokens, epsilon, unit=False)


def subspace_coding_rate(projections: Tensor, epsilon: float = 0.1, mode: RateMode = "paper") -> Tensor:
    """Coding rate under the subspace codebooks, R^c = sum_k 1/2 logdet(I + p / (N eps^2) W_k^T W_k) with W_k = Z U_k.

    Args:
        projections: (..., K, N, p), the tokens seen by each of the K subspaces.
        epsilon: the precision, > 0.
        mode: "paper" takes the projections as they are; "official" first scales each projected token to unit length,
            as the public measuring script does (its `eps=0.01` is epsilon^2, so epsilon = 0.1).

    Returns:
        (...) rates in nats, summed over the heads. Differentiable.

    Raises:
        ValueError: fewer than three axes, an unknown mode, or epsilon <= 0.

    Example:
        >>> tokens = torch.eye(4)  # four tokens, each within one of two subspaces
        >>> projections = torch.stack([tokens[:, :2], tokens[:, 2:]])
        >>> bool(subspace_coding_rate(projections) < coding_rate(tokens))
        True

    Source: arXiv 2306.01129, eq. 5.
    """
    if projections.ndim < 3:
        raise UserError(
            f"projections must be (..., num_heads, num_tokens, head_dim), got shape {tuple(projections.shape)}"
        )
    if mode not in ("official", "paper"):
        raise UserError(f"mode must be 'official' or 'paper', got {mode!r}")
    return _rate(projections, epsilon, unit=mode == "official").sum(dim=-1)


def rate_reduction(tokens: Tensor, projections: Tensor, epsilon: float = 0.1) -> Tensor:
    """Rate reduction Delta R = R(Z) - R^c(Z; U), in nats.

    Args:
        tokens: (..., N, d). projections: (..., K, N, p) of the same tokens. epsilon: the precision, > 0.

    Returns:
        (...) differences in nats; negative where the codebooks do not fit. Differentiable.

    Example:
        >>> tokens = torch.eye(4)
        >>> projections = torch.stack([tokens[:, :2], tokens[:, 2:]])
        >>> bool(rate_reduction(tokens, projections) > 0)
        True

    Source: arXiv 2306.01129, eq. 6.
    """
    return coding_rate(tokens, epsilon) - subspace_coding_rate(projections, epsilon)


def sparse_rate_reduction(
    tokens: Tensor, projections: Tensor, sparsity_weight: float = 0.1, epsilon: float = 0.1
) -> Tensor:
    """The objective of CRATE, R(Z) - R^c(Z; U) - lambda ||Z||_0, with ||Z||_0 the number of non-zero entries.

    Args:
        tokens: (..., N, d). projections: (..., K, N, p). sparsity_weight: lambda, nats a non-zero entry, >= 0.
        epsilon: the precision, > 0.

    Returns:
        (...) values in nats. The counting term has no gradient.

    Raises:
        ValueError: a negative or infinite sparsity_weight.

    Example:
        >>> tokens = torch.eye(4)  # of 16 entries, 4 are not 0
        >>> projections = torch.stack([tokens[:, :2], tokens[:, 2:]])
        >>> lost = rate_reduction(tokens, projections) - sparse_rate_reduction(tokens, projections, sparsity_weight=0.5)
        >>> round(lost.item(), 4)
        2.0

    Source: arXiv 2306.01129, eq. 1.
    """
    if not (sparsity_weight >= 0 and math.isfinite(sparsity_weight)):
        raise UserError(f"sparsity_weight must be finite and >= 0, got {sparsity_weight}")
    nonzero_entries = sparsity(tokens) * (tokens.shape[-2] * tokens.shape[-1])
    return rate_reduction(tokens, projections, epsilon) - sparsity_weight * nonzero_entries


__all__ = [
    "RateMode",
    "coding_rate",
    "normalize_tokens",
    "rate_reduction",
    "sparse_rate_reduction",
    "subspace_coding_rate",
]
