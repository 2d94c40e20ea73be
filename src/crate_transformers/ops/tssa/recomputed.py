"""TSSA with its gradient written out: W and Pi are kept for the backward pass, the rest is made again.

The equations as automatic differentiation sees them keep some ten tensors of the size of W. Here (G: the gradient of
the heads H = -Pi W / D; D = 1 + s, or 1 + A / P in the causal form)

    dW = -G Pi / D + 2 W dQ,   dPi = -sum_j G W / D + ...,   dD = G Pi W / D^2

and the statistics are sums over the tokens (causal: up to the own one), whose gradients are sums back over the tokens.

Shapes: B batch, N tokens, K heads, p head_dim.
"""

from typing import Protocol

import torch
from torch import Tensor

from . import equation
from .equation import _FEWEST_MASS, _FEWEST_NORM
from .second_derivative import gradients_of


class Context(Protocol):
    """What carries tensors from a forward to its backward."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


def _back(values: Tensor) -> Tensor:
    """Sums over a token and all later ones."""
    return values.flip(1).cumsum(dim=1).flip(1)


class Memberships(torch.autograd.Function):
    """W (B, N, K, p), t (K, 1) -> Pi (B, N, K); `equation.memberships` without padding.

    u^2 = W^2 / S with S the sums of W^2 over the tokens, so no token is scaled by itself.
    """

    @staticmethod
    def forward(ctx: Context, projected: Tensor, temperature: Tensor) -> Tensor:
        shares, _ = _unit_squares(projected)
        pi = (shares * temperature.squeeze(-1)).softmax(dim=-1)
        ctx.save_for_backward(projected, temperature, pi)
        return pi

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        projected, temperature, pi = ctx.saved_tensors
        if torch.is_grad_enabled():
            return gradients_of(equation.memberships, (projected, temperature), (gradient,))
        shares, inverse = _unit_squares(projected)
        d_scores = pi * (gradient - (pi * gradient).sum(dim=-1, keepdim=True))
        d_temperature = (d_scores * shares).sum(dim=(0, 1))[:, None]
        d_shares = 2 * d_scores * temperature.squeeze(-1)  # (B, N, K)
        d_sums = _moment(projected, d_shares) * inverse * inverse  # of -S
        d_sums = d_sums.masked_fill(inverse == 1 / _FEWEST_NORM**2, 0)  # where S is bounded below
        d_projected = (d_shares[..., None] * inverse[:, None] - d_sums[:, None]).mul_(projected)
        return d_projected, d_temperature


def _unit_squares(projected: Tensor) -> tuple[Tensor, Tensor]:
    """sum_j u^2 (B, N, K), and 1 / S (B, K, p)."""
    squares = projected.square()
    inverse = 1 / squares.sum(dim=1).clamp(min=_FEWEST_NORM**2)
    return squares.mul_(inverse[:, None]).sum(dim=-1), inverse


class Shrinking(torch.autograd.Function):
    """W (B, N, K, p), Pi (B, N, K) -> heads (B, N, K, p); `equation.tssa` without dropout."""

    @staticmethod
    def forward(ctx: Context, projected: Tensor, pi: Tensor) -> Tensor:
        ctx.save_for_backward(projected, pi)
        mass = pi.sum(dim=1) + _FEWEST_MASS  # (B, K)
        moment = _moment(projected, pi) / mass[..., None]  # (B, K, p)
        return projected * (-pi[..., None]) / (1 + moment)[:, None]

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        projected, pi = ctx.saved_tensors
        if torch.is_grad_enabled():
            return gradients_of(equation.tssa, (projected, pi), (gradient,))
        mass = pi.sum(dim=1) + _FEWEST_MASS
        moment = _moment(projected, pi) / mass[..., None]
        shrunk = gradient / (1 + moment)[:, None]  # G / D
        along = shrunk * projected  # (B, N, K, p)
        d_moment = torch.einsum("bnkp,bnk->bkp", along, pi) / (1 + moment)  # (B, K, p)
        d_weighted = d_moment / mass[..., None]
        d_mass = -(d_weighted * moment).sum(dim=-1)  # (B, K)
        d_pi = torch.einsum("bnkp,bkp->bnk", projected.square(), d_weighted) + d_mass[:, None] - along.sum(dim=-1)
        d_projected = pi[..., None] * (2 * projected * d_weighted[:, None] - shrunk)
        return d_projected, d_pi


def _moment(projected: Tensor, pi: Tensor) -> Tensor:
    return torch.einsum("bnkp,bnk->bkp", projected.square(), pi)


class CausalMemberships(torch.autograd.Function):
    """W, t (K, 1), b (B or 1, N, K) -> Pi (B, N, K), from no past; `equation.causal_memberships` without padding."""

    @staticmethod
    def forward(ctx: Context, projected: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
        squares = projected.square()
        shares = _shares(squares, squares.cumsum(dim=1), bias)
        pi = (shares * temperature.squeeze(-1)).softmax(dim=-1)
        ctx.save_for_backward(projected, temperature, bias, pi)
        return pi

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        projected, temperature, bias, pi = ctx.saved_tensors
        if torch.is_grad_enabled():

            def alone(w: Tensor, t: Tensor, b: Tensor) -> Tensor:
                return equation.causal_memberships(w, t, b)[0]

            return gradients_of(alone, (projected, temperature, bias), (gradient,))
        squares = projected.square()
        seen = squares.cumsum(dim=1)
        inverse = 1 / seen.clamp(min=_FEWEST_NORM)
        d_scores = pi * (gradient - (pi * gradient).sum(dim=-1, keepdim=True))
        d_temperature = (d_scores * _shares(squares, seen, bias)).sum(dim=(0, 1))[:, None]
        d_shares = d_scores * temperature.squeeze(-1)  # (B, N, K)
        d_bias = (projected.shape[-1] * d_shares).sum_to_size(bias.shape)
        d_seen = torch.where(seen > _FEWEST_NORM, squares * inverse.square(), 0) * -d_shares[..., None]
        d_squares = _back(d_seen).addcmul_(inverse, d_shares[..., None])
        return d_squares.mul_(projected).mul_(2), d_temperature, d_bias


def _shares(squares: Tensor, seen: Tensor, bias: Tensor) -> Tensor:
    """sum_j (W^2 / S + b) (B, N, K)."""
    return (squares / seen.clamp(min=_FEWEST_NORM)).sum(dim=-1) + squares.shape[-1] * bias


class CausalShrinking(torch.autograd.Function):
    """W, Pi -> heads, from no past; `equation.causal_tssa` without dropout."""

    @staticmethod
    def forward(ctx: Context, projected: Tensor, pi: Tensor) -> Tensor:
        ctx.save_for_backward(projected, pi)
        ratio, _ = _ratio(projected, pi)
        return projected.mul(-pi[..., None]).div_(ratio.add_(1))

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        projected, pi = ctx.saved_tensors
        if torch.is_grad_enabled():

            def alone(w: Tensor, p: Tensor) -> Tensor:
                return equation.causal_tssa(w, p)[0]

            return gradients_of(alone, (projected, pi), (gradient,))
        ratio, mass = _ratio(projected, pi)  # A / P, P
        shrunk = gradient / (1 + ratio)  # G / D
        along = shrunk * projected
        d_ratio = along.mul(pi[..., None]).div_(1 + ratio)
        d_weighted = d_ratio / mass  # of A
        d_mass = -(d_weighted * ratio).sum(dim=-1)  # (B, N, K)
        back = _back(d_weighted)
        d_pi = (back * projected.square()).sum(dim=-1) + _back(d_mass) - along.sum(dim=-1)
        return pi[..., None] * back.mul_(projected).mul_(2).sub_(shrunk), d_pi


def _ratio(projected: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    mass = pi.cumsum(dim=1)[..., None] + _FEWEST_MASS
    return projected.square().mul_(pi[..., None]).cumsum(dim=1).div_(mass), mass


__all__ = ["CausalMemberships", "CausalShrinking", "Memberships", "Shrinking"]
