"""The multi-layer perceptron, the block that ISTA replaces.

    Z_next = Z + gelu(LN(Z) A^T + a) B^T + b      gelu(x) = x Phi(x), the exact form

Shapes: B batch, N tokens, d hidden_size, m = mlp_ratio * d.

Source: arXiv 1706.03762, 1606.08415.
"""

from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...ops import gelu_linear
from ..adapters import refuse_addition
from ..increment import Increment
from ..layer_norm import block_norm
from ..linear import Linear
from ..normalized_linear import NormalizedLinear
from .block import SparsificationStep


class Activations(Linear):
    """gelu(x A^T + a) (B, N, m) of tokens (B, N, d): what stands in the place of a code."""

    def forward(self, input: Tensor) -> Tensor:
        return gelu_linear(input, self.weight, self.bias)


class FeedForward(SparsificationStep):
    """LayerNorm, two linear maps with gelu between them, residual.

    Args:
        config: hidden_size, mlp_size, mlp_bias, and what `Increment` reads.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.norm: nn.Module = block_norm(config)
        self.coding: nn.Module = Activations(config.hidden_size, config.mlp_size, bias=config.mlp_bias)
        self.output = Linear(config.mlp_size, config.hidden_size, bias=config.mlp_bias)
        self.increment = Increment(config)

    def forward(self, half_hidden_states: Tensor) -> Tensor:
        """Z_next (B, N, d) of Z (B, N, d)."""
        refuse_addition(self.coding)
        return half_hidden_states + self.increment(self.output(self.coding(self.norm(half_hidden_states))))

    def code_width(self) -> int:
        return self.output.in_features

    def folded(self) -> nn.Module:
        """The LayerNorm within the first map."""
        coding = cast(Activations, self.coding)
        activations = NormalizedLinear(cast(nn.LayerNorm, self.norm), coding.weight, coding.bias)
        self.norm, self.coding = nn.Identity(), nn.Sequential(activations, nn.GELU())
        return self


__all__ = ["Activations", "FeedForward"]
