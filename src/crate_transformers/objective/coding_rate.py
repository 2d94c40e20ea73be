"""Coding rates of token sets, in nats.

    R(Z)      = 1/2 logdet(I + d / (N eps^2) Z Z^T)                      [P1, eq. 3; Z here has tokens as rows]
    R^c(Z; U) = sum_k 1/2 logdet(I + p / (N eps^2) (Z U_k) (Z U_k)^T)    [P1, eq. 5]
    Delta R   = R(Z) - R^c(Z; U)                                         [P1, eq. 6]
    sparse rate reduction = Delta R - lambda ||Z||_0                     [P1, eq. 1]

By Sylvester's identity logdet(I_N + a Z Z^T) = logdet(I_d + a Z^T Z), so the smaller Gram matrix is always the
one that is factored: 48 x 48 instead of 197 x 197 for CRATE-small at 224 px.

Shapes: B... any leading axes, N tokens, d width, K heads (subspaces), p width of a subspace.

[P1] arXiv 2306.01129. Where we differ: tokens are rows; `mode="official"` of `subspace_coding_rate` reproduces the
public measuring script (tokens of each head scaled to unit length, eps = 0.1), `mode="paper"` is the formula above.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from ..native.coding_rate import can_rate, half_logdet_gram
from .sparsity import sparsity

RateMode = Literal["official", "paper"]


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def normalize_tokens(tokens: Tensor) -> Tensor:
    """Scale every token to unit L2 norm; a zero token stays zero.

    Args:
        tokens: (..., N, d).

    Returns:
        (..., N, d), in float32 or wider. The gradient at a zero token is zero.
    """
    tokens = _at_least_float32(tokens)
    norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return tokens / norm.masked_fill(norm == 0, 1.0)


def _half_logdet_gram(tokens: Tensor, scale: float, unit: bool) -> Tensor:
    """1/2 logdet(I + scale * G), G the smaller of tokens tokens^T and tokens^T tokens. (..., N, d) -> (...).

    Args:
        unit: take tokens of unit length instead.
    """
    leading = tokens.shape[:-2]
    # I + positive semi-definite is positive definite: Cholesky is exact here and cheaper than an LU of torch.logdet
    try:
        if can_rate(tokens):
            heads = tokens.flatten(0, -4) if len(leading) > 2 else tokens[(None,) * (2 - len(leading))]  # (B, K, N, d)
            return half_logdet_gram(heads, scale, unit).reshape(leading)
        shifted = _shifted_gram(normalize_tokens(tokens) if unit else tokens, scale)
        factor = torch.linalg.cholesky(shifted)
    except torch.linalg.LinAlgError:  # long tokens of few directions: rounding has eaten the identity
        if tokens.dtype == torch.float64:
            spectrum = torch.linalg.eigvalsh(shifted).clamp(min=1)
            return spectrum.log().sum(dim=-1).reshape(leading) / 2
        return _half_logdet_gram(tokens.double(), scale, unit).to(tokens.dtype)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).reshape(leading)


def _shifted_gram(tokens: Tensor, scale: float) -> Tensor:
    """I + scale * G of M token sets: (..., N, d) -> (M, N, N) or (M, d, d), whichever is smaller."""
    num_tokens, width = tokens.shape[-2:]
    flat = tokens.reshape(-1, num_tokens, width)
    if num_tokens >= width:
        flat = flat.mT
    identity = torch.eye(flat.shape[-2], dtype=flat.dtype, device=flat.device)
    return torch.baddbmm(identity, flat, flat.mT, alpha=scale)


def _rate(tokens: Tensor, epsilon: float, unit: bool) -> Tensor:
    """The coding rate of tokens (..., N, d), as they are or scaled to unit length."""
    if not epsilon > 0:
        raise UserError(f"epsilon must be positive, got {epsilon}")
    tokens = _at_least_float32(tokens)
    num_tokens, width = tokens.shape[-2:]
    if num_tokens == 0:
        return tokens.new_zeros(tokens.shape[:-2])
    with torch.autocast(device_type=tokens.device.type, enabled=False):
        return _half_logdet_gram(tokens, width / (num_tokens * epsilon**2), unit)


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
