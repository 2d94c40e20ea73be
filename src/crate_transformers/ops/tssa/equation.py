"""Token statistics self-attention (TSSA): compression without comparing tokens pairwise, in time O(N d).

    W = Z V,  u = W / ||W||_2 (each channel over the tokens),  Pi = softmax_k(t_k sum_j u_kj^2)           memberships
    TSSA(Z)_k = - Pi_k W_k / (1 + s_k),   s_kj = sum_i Pi_ik W_ikj^2 / sum_i Pi_ik                        [T]

With Pi held fixed this is minus the gradient in W of the variational bound of the coding rate under K subspaces,

    F(W; Pi) = 1/2 sum_k n_k sum_j log(1 + (1 / n_k) sum_i Pi_ik W_ikj^2),   n_k = sum_i Pi_ik                      [T]

The causal form takes every sum over the tokens up to the own one, so that each token is made once and for all:

    S_t = sum W^2,   Pi_t = softmax_k(t_k sum_j (W_tkj^2 / S_tkj + b_tk)),   A_t = sum Pi W^2,   P_t = sum Pi

S (K, p), A (K, p) and P (K) are all that the past leaves: 2 d + K numbers, however long it was.

Where we differ from the paper, as the public code does: the temperature t; 1e-8 in the mean; the causal bias b stands
within the sum over the channels, so that it counts p times; V may have a bias.

Shapes: B batch, N tokens, K heads, p head_dim.

[T] arXiv 2412.17810.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_FEWEST_NORM, _FEWEST_MASS = 1e-12, 1e-8


class Statistics(NamedTuple):
    """What the past of a causal layer leaves: S (B, K, p), A (B, K, p), P (B, K), in float32 (float64 of float64)."""

    squares: Tensor
    weighted: Tensor
    mass: Tensor


def memberships(projected: Tensor, temperature: Tensor, is_token: Tensor | None = None) -> Tensor:
    """Pi: how far a token belongs to each head.

    Args:
        projected: W (B, N, K, p). temperature: t (K, 1). is_token: (B, N), False for padding.

    Returns:
        (B, N, K), each token's sum to 1; 0 for padding.

    Example:
        >>> memberships(torch.ones(1, 2, 4, 5), torch.ones(4, 1))[0, 0].tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    counted = projected if is_token is None else projected * is_token[..., None, None]
    unit = counted / counted.norm(dim=1, keepdim=True).clamp(min=_FEWEST_NORM)
    scores = unit.square().sum(dim=-1) * temperature.squeeze(-1)  # (B, N, K)
    pi = scores.softmax(dim=-1)
    return pi if is_token is None else pi * is_token[..., None]


def tssa(projected: Tensor, pi: Tensor, dropout: float = 0.0) -> Tensor:
    """- Pi W / (1 + s), the step within the heads.

    Args:
        projected: W (B, N, K, p). pi: (B, N, K) of `memberships`. dropout: the fraction of 1 / (1 + s) that is dropped.

    Returns:
        (B, N, K, p).

    Example:
        >>> tssa(torch.ones(1, 2, 1, 3), torch.ones(1, 2, 1))[0, 0, 0].tolist()  # the mean square is 1
        [-0.5, -0.5, -0.5]
    """
    shares = pi / (pi.sum(dim=1, keepdim=True) + _FEWEST_MASS)  # (B, N, K)
    second_moment = (shares[..., None] * projected.square()).sum(dim=1, keepdim=True)  # s (B, 1, K, p)
    shrinkage = torch.nn.functional.dropout(1 / (1 + second_moment), dropout)
    return -pi[..., None] * projected * shrinkage


def causal_memberships(
    projected: Tensor,
    temperature: Tensor,
    bias: Tensor,
    past: Tensor | None = None,
    is_token: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Pi of tokens that follow a past, each by the tokens up to itself.

    Args:
        projected: W (B, N, K, p). temperature: t (K, 1). bias: b (B or 1, N, K). past: S (B, K, p) before the first
            token, in float32 or wider; None: there was none. is_token: (B, N), False for padding, which adds
            nothing to the statistics.

    Returns:
        (B, N, K), in the type of S; S (B, K, p) after the last token.

    Example:
        >>> w = torch.ones(1, 2, 3, 5)
        >>> pi, squares = causal_memberships(w, torch.ones(3, 1), torch.zeros(1, 2, 3))
        >>> squares[0, 0, 0].item()
        2.0
    """
    squares = _squares(projected)
    if is_token is not None:
        squares = squares * is_token[..., None, None]
    seen = _since(past, squares)  # S_t (B, N, K, p)
    scores = (squares / seen.clamp(min=_FEWEST_NORM) + bias[..., None]).sum(dim=-1) * temperature.squeeze(-1)
    pi = scores.softmax(dim=-1)
    return pi if is_token is None else pi * is_token[..., None], seen[:, -1]


def causal_tssa(
    projected: Tensor,
    pi: Tensor,
    past_weighted: Tensor | None = None,
    past_mass: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The causal step, of tokens that follow a past.

    Args:
        projected: W (B, N, K, p). pi: (B, N, K) of `causal_memberships`, 0 for padding. past_weighted, past_mass: A
            (B, K, p) and P (B, K) before the first token, or None. dropout: as in `tssa`.

    Returns:
        (B, N, K, p); A and P after the last token.

    Example:
        >>> w = torch.ones(1, 2, 1, 3)
        >>> heads, weighted, mass = causal_tssa(w, torch.ones(1, 2, 1))
        >>> heads[0, :, 0, 0].tolist(), mass.item()
        ([-0.5, -0.5], 2.0)
    """
    weighted = _since(past_weighted, pi[..., None] * _squares(projected))  # A_t (B, N, K, p)
    mass = _since(past_mass, pi)  # P_t (B, N, K)
    shrinkage = torch.nn.functional.dropout(1 / (1 + weighted / (mass[..., None] + _FEWEST_MASS)), dropout)
    heads = -pi[..., None] * projected * shrinkage
    return heads.to(projected.dtype), weighted[:, -1], mass[:, -1]


def _squares(projected: Tensor) -> Tensor:
    """W^2, in float32 or wider: sums of squares outgrow half precision."""
    return projected.to(torch.promote_types(projected.dtype, torch.float32)).square()


def _since(past: Tensor | None, values: Tensor) -> Tensor:
    """Sums (B, N, ...) of values up to each token, on top of those of the past (B, ...)."""
    sums = values.cumsum(dim=1)
    return sums if past is None else past[:, None] + sums


__all__ = ["Statistics", "causal_memberships", "causal_tssa", "memberships", "tssa"]
