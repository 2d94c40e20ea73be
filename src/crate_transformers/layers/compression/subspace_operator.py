"""What operators within subspaces have in common: the projection of tokens to heads, and the way back.

    W_k = Z U_k,   [head_1 ... head_K] O + b

O is a matrix of its own ("learned"), the bases themselves ("tied": sum_k head_k U_k^T), or left out ("none").

Shapes: B batch, N tokens, d hidden_size, K heads, p head_dim.
"""

from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...ops import linear
from ..adapters import weight_of
from ..linear import Linear
from ..normalized_linear import NormalizedLinear
from .block import CompressionOperator


class SubspaceOperator(CompressionOperator):
    """An operator that works within K subspaces; subclasses say what it does there.

    Args:
        config: hidden_size, num_attention_heads, head_dim, attention_output, attention_output_bias.
        layer_idx: position of the layer.
        num_heads, head_dim: instead of the configuration's (the decoder of the autoencoder may differ).
        bias: whether the projection to the subspaces has one.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        layer_idx: int = 0,
        num_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
    ):
        super().__init__(config, layer_idx)
        self.num_heads = num_heads or config.num_attention_heads
        self.head_dim = head_dim or config.head_dim
        inner = self.num_heads * self.head_dim
        self.subspaces: Linear | NormalizedLinear = Linear(config.hidden_size, inner, bias=bias)
        self.is_tied = config.attention_output == "tied"
        self.output: nn.Module = nn.Identity()
        if config.attention_output == "learned":
            self.output = Linear(inner, config.hidden_size, bias=config.attention_output_bias)

    def project(self, hidden_states: Tensor) -> Tensor:
        """W (B, N, K, p) of tokens (B, N, d)."""
        return self.subspaces(hidden_states).unflatten(-1, (self.num_heads, self.head_dim))

    def expand(self, heads: Tensor) -> Tensor:
        """Tokens (B, N, d) of heads (B, N, K, p)."""
        flat = heads.flatten(2)
        return linear(flat, weight_of(self.subspaces).mT) if self.is_tied else self.output(flat)

    def bases(self) -> Tensor:
        return self.subspaces.weight

    def fold(self, norm: nn.LayerNorm) -> bool:
        """LayerNorm and U as one projection."""
        if self.is_tied:  # the way back keeps the bases as they are
            self.is_tied, weight = False, self.subspaces.weight.mT
            inner, width = self.subspaces.weight.shape
            self.output = Linear(inner, width, bias=False, dtype=weight.dtype, device=weight.device)
            self.output.weight.copy_(weight)
        self.subspaces = NormalizedLinear(norm, self.subspaces.weight, cast(Linear, self.subspaces).bias)
        return True


__all__ = ["SubspaceOperator"]
