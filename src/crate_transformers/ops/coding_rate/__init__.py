"""The coding rate of a token set: on the smaller Gram matrix, and on a CPU by compiled code, one set at a time."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..conditions import WIDE, without_autocast
from ..forms import Form, Operator
from . import cpu, equation, gram
from .equation import normalize_tokens


class Rate(NamedTuple):
    """Arguments of `half_logdet_gram`."""

    tokens: Tensor
    scale: float
    unit: bool


def _by_compiled_code(a: Rate) -> Tensor:
    leading = a.tokens.shape[:-2]
    heads = a.tokens.flatten(0, -4) if len(leading) > 2 else a.tokens[(None,) * (2 - len(leading))]  # (B, K, N, p)
    try:
        return cpu.half_logdet_gram(heads, a.scale, a.unit).reshape(leading)
    except torch.linalg.LinAlgError:  # float32 does not hold the result
        return gram.half_logdet_gram(a.tokens.double(), a.scale, a.unit).to(a.tokens.dtype)


half_logdet_gram = Operator(
    equation.half_logdet_gram,
    Rate,
    Form("cpu", _by_compiled_code, lambda a: cpu.can_rate(a.tokens), is_torch=False),
    Form("smaller Gram matrix", lambda a: gram.half_logdet_gram(*a)),
)


def half_logdet(tokens: Tensor, scale: float, unit: bool = False) -> Tensor:
    """1/2 logdet(I + s W^T W) (...) of tokens W (..., N, p), in nats: in float32 or wider, also within autocast.

    Args:
        scale: s > 0. unit: take tokens of unit length instead.

    Example:
        >>> round(half_logdet(torch.eye(3), scale=1.0).item(), 4)  # 3/2 log 2
        1.0397
    """
    tokens = tokens if tokens.dtype in WIDE else tokens.float()
    if tokens.shape[-2] == 0:
        return tokens.sum(dim=(-2, -1))  # zeros: the determinant of the identity
    with without_autocast(tokens):
        return half_logdet_gram(tokens, scale, unit)


__all__ = ["half_logdet", "half_logdet_gram", "normalize_tokens"]
