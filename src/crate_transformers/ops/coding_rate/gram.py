"""The coding rate on the smaller of two Gram matrices, factored by Cholesky.

    logdet(I_N + s W W^T) = logdet(I_p + s W^T W)        (Sylvester's identity)

For 197 tokens of width 48 that is a matrix of 48 x 48 instead of 197 x 197. I + s W^T W is positive definite, so its
Cholesky factor exists and costs less than torch.logdet's LU. Identity, scale and product are one batched operation.

Shapes: B... any leading axes, M token sets, N tokens, p width.
"""

import torch
from torch import Tensor

from .equation import normalize_tokens


def half_logdet_gram(tokens: Tensor, scale: float, unit: bool) -> Tensor:
    """1/2 logdet(I + s W^T W) (...) of tokens (..., N, p); see equation.py."""
    shifted = _shifted_gram(normalize_tokens(tokens) if unit else tokens, scale)
    try:
        factor = torch.linalg.cholesky(shifted)
    except torch.linalg.LinAlgError:  # long tokens of few directions: rounding has eaten the identity
        if tokens.dtype == torch.float64:
            spectrum = torch.linalg.eigvalsh(shifted).clamp(min=1)
            return spectrum.log().sum(dim=-1).reshape(tokens.shape[:-2]) / 2
        return half_logdet_gram(tokens.double(), scale, unit).to(tokens.dtype)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).reshape(tokens.shape[:-2])


def _shifted_gram(tokens: Tensor, scale: float) -> Tensor:
    """I + s G of M token sets: (..., N, p) -> (M, N, N) or (M, p, p), whichever is smaller."""
    num_tokens, width = tokens.shape[-2:]
    flat = tokens.reshape(-1, num_tokens, width)
    if num_tokens >= width:
        flat = flat.mT
    identity = torch.eye(flat.shape[-2], dtype=flat.dtype, device=flat.device)
    return torch.baddbmm(identity, flat, flat.mT, alpha=scale)


__all__ = ["half_logdet_gram"]
