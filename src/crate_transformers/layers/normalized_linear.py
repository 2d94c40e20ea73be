"""A projection of normalised inputs, with the affine part of the LayerNorm folded into it.

    LN(z) W + c = z^ (diag(g) W) + (b W + c)                  z^: the normalised token; g, b: the affine part of LN

Weights are stored as by nn.Linear, (out, in). Tokens are rows.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .linear import Linear


class NormalizedLinear(nn.Module):
    """Linear(LN(x)), made once from both; `linear` is an nn.Linear, so that tools that replace those find it."""

    ones: Tensor
    zeros: Tensor

    def __init__(self, norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.eps = norm.eps
        scale = norm.weight.double()  # folding rounds once
        shift = torch.zeros_like(scale) if norm.bias is None else norm.bias.double()
        wide = weight.double()  # (out, in)
        offset = wide @ shift if bias is None else wide @ shift + bias.double()
        self.linear = Linear(wide.shape[1], wide.shape[0], dtype=weight.dtype, device=weight.device)
        self.linear.requires_grad_(False)
        self.linear.weight.copy_(wide * scale)
        self.linear.bias.copy_(offset)
        # an affine part that does nothing: torch's kernel without one is not vectorised on the CPU
        self.register_buffer("ones", torch.ones_like(norm.weight))
        self.register_buffer("zeros", torch.zeros_like(norm.weight))

    @property
    def weight(self) -> Tensor:
        return self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.linear(F.layer_norm(x, self.ones.shape, self.ones, self.zeros, self.eps))


__all__ = ["NormalizedLinear"]
