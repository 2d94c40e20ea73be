"""MSSA of the first tokens alone, without projecting the others: w_k = z U_k for each of them, and

    softmax(w_k W_k^T / sqrt(p)) W_k = softmax((w_k U_k^T) Z^T / sqrt(p)) Z U_k

So the K heads of n tokens are n K queries to one head of width d, whose keys and values are the tokens themselves.

Shapes: B batch, N tokens, n of them asked for, d width, K heads, p head_dim.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .equation import attend

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


def _by_equation(bases: Tensor) -> Attend:
    scaling = bases.shape[1] ** -0.5
    return lambda queries, keys, values, mask: (attend(queries, keys, values, mask, scaling, False), None)


def attend_first(
    tokens: Tensor,
    projected: Tensor,
    bases: Tensor,
    mask: Tensor | None = None,
    attend: Attend | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The heads of the first n tokens.

    Args:
        tokens: Z (B, N, d). projected: w_k of the first n tokens (B, n, K, p). bases: U_k^T (K, p, d).
        mask: broadcastable to (B, K, N, N), numbers to add, or bool with True for what is seen.
        attend: (queries, keys, values, mask) -> mixed tokens (B, N, K, p), and the attention or None; with the scaling
            of heads of width p. None: by the equation.

    Returns:
        (B, n, K, p), and the attention (B, K, n, N) where `attend` gives it.

    Example:
        >>> tokens, bases = torch.randn(2, 7, 10), torch.randn(3, 5, 10)
        >>> projected = torch.einsum("bnd,kpd->bnkp", tokens[:, :1], bases)
        >>> mixed, _ = attend_first(tokens, projected, bases)
        >>> mixed.shape
        torch.Size([2, 1, 3, 5])
    """
    num_first, num_heads = projected.shape[1:3]
    queries = torch.einsum("bnkp,kpd->bnkd", projected, bases)
    if mask is not None:
        mask = mask[:, :, :num_first].expand(-1, num_heads, num_first, -1)
        mask = mask.transpose(1, 2).flatten(1, 2).unsqueeze(1)  # (B, 1, n K, N)
    one_head = tokens.unsqueeze(1)  # (B, 1, N, d)
    if attend is None:  # not `attend or ...`: the compiler of torch 2.11 asks no function whether it is true
        attend = _by_equation(bases)
    mixed, attention = attend(queries.flatten(1, 2).unsqueeze(1), one_head, one_head, mask)
    mixed = torch.einsum("bnkd,kpd->bnkp", mixed.reshape(queries.shape), bases)
    if attention is not None:
        attention = attention.squeeze(1).unflatten(1, (num_first, num_heads)).transpose(1, 2)
    return mixed, attention


__all__ = ["attend_first"]
