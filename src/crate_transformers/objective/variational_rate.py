"""The variational bound of the coding rate under K subspaces, which token statistics attention descends.

    F(W; Pi) = 1/2 sum_k n_k sum_j log(1 + (1 / n_k) sum_i Pi_ik W_ikj^2),   n_k = sum_i Pi_ik

It needs the second moment of each channel alone: no log-determinant. With Pi held fixed, TSSA is minus its gradient.

Shapes: B... any leading axes, K heads, N tokens, p width of a head.

Source: arXiv 2412.17810.
"""

import torch
from torch import Tensor

from ..errors import UserError


def variational_coding_rate(projections: Tensor, memberships: Tensor) -> Tensor:
    """F(W; Pi), nats.

    Args:
        projections: W (..., K, N, p). memberships: Pi (..., N, K), >= 0; 0 for padding. Computed in float32 (float64
            when given).

    Returns:
        (...) values in nats, >= 0. Differentiable.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> variational_coding_rate(torch.zeros(1, 5, 3), torch.ones(5, 1)).item()
        0.0

    Source: arXiv 2412.17810.
    """
    if projections.ndim < 3 or memberships.shape[-2:] != (projections.shape[-2], projections.shape[-3]):
        raise UserError(
            f"expected projections (..., heads, tokens, width) and memberships (..., tokens, heads), got "
            f"{tuple(projections.shape)} and {tuple(memberships.shape)}"
        )
    wide = torch.promote_types(projections.dtype, torch.float32)
    pi = memberships.to(wide).mT[..., None]  # (..., K, N, 1)
    mass = pi.sum(dim=-2)  # n_k (..., K, 1)
    second_moment = (pi * projections.to(wide).square()).sum(dim=-2) / mass.clamp(min=torch.finfo(wide).tiny)
    return 0.5 * (mass * second_moment.log1p()).sum(dim=(-2, -1))


__all__ = ["variational_coding_rate"]
