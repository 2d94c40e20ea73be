"""CBSA by torch: scalings and steps fall on the m representatives, not on N tokens and m x N scores."""

import torch
from torch import Tensor


def on_representatives(projected: Tensor, pooled: Tensor, step_tokens: Tensor, step_representatives: Tensor) -> Tensor:
    """As `equation.cbsa`, with its shapes."""
    scaling = projected.shape[-1] ** -0.5
    tokens = projected.transpose(1, 2).contiguous()  # (B, K, N, p), once for three products
    attention = ((scaling * pooled) @ tokens.mT).softmax(dim=-1)  # A (B, K, m, N)
    moved = torch.addcmul(pooled, step_representatives, attention @ tokens)  # R'
    contracted = ((scaling * moved) @ moved.mT).softmax(dim=-1) @ moved  # C (B, K, m, p)
    return (attention.mT @ (step_tokens * contracted)).transpose(1, 2)


__all__ = ["on_representatives"]
