"""The coding rate of a token set, up to its scale.

    1/2 logdet(I + s W^T W),    s = p / (N eps^2) where W (N, p) is one of the projections or the tokens themselves

[P1, eq. 3 and 5]. By Sylvester's identity it equals 1/2 logdet(I + s W W^T).

Shapes: B... any leading axes, N tokens, p width.

[P1] arXiv 2306.01129.
"""

import torch
from torch import Tensor


def normalize_tokens(tokens: Tensor) -> Tensor:
    """Scale every token to unit L2 norm; a zero token stays zero.

    Args:
        tokens: (..., N, p).

    Returns:
        (..., N, p), in float32 or wider. The gradient at a zero token is zero.

    Example:
        >>> normalize_tokens(torch.tensor([[0.0, 2.0], [0.0, 0.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
    norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    return tokens / norm.masked_fill(norm == 0, 1.0)


def half_logdet_gram(tokens: Tensor, scale: float, unit: bool) -> Tensor:
    """1/2 logdet(I + s W^T W), in nats.

    Args:
        tokens: (..., N, p), W, in float32 or float64. scale: s > 0. unit: take tokens of unit length instead.

    Returns:
        (...).
    """
    tokens = normalize_tokens(tokens) if unit else tokens
    identity = torch.eye(tokens.shape[-1], dtype=tokens.dtype, device=tokens.device)
    return torch.logdet(identity + scale * tokens.mT @ tokens) / 2


__all__ = ["half_logdet_gram", "normalize_tokens"]
