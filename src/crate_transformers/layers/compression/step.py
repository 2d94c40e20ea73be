"""The step that compresses: an operator of the `compression` field between a LayerNorm and a residual.

    Z_half = Z + MSSA(LN(Z))      [P1, eq. 14]

The residual is x + attn(LN(x)), as in the public code (one paper's pseudo-code prints LN(x) on both sides).

Shapes: B batch, N tokens, d hidden_size.

[P1] arXiv 2306.01129.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...configuration.blocks import COMPRESSIONS, names_of_layers
from ..block import Block


class Compression(Block):
    """One step that compresses."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        name = names_of_layers(config.compression, config.num_hidden_layers)[layer_idx]
        self.norm: nn.Module = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.attention = COMPRESSIONS[name].load()(config, layer_idx)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, num_read: int | None = None, **kwargs: Any) -> Tensor:
        """Z_half (B, N, d) of Z (B, N, d); of the first num_read tokens alone, where that is given."""
        if num_read is None:
            compressed, _ = self.attention(self.norm(hidden_states), **kwargs)
            return hidden_states + self.dropout(compressed)
        compressed, _ = self.attention.mix_first(self.norm(hidden_states), num_read, **kwargs)
        return hidden_states[:, :num_read] + self.dropout(compressed)

    def folded(self) -> nn.Module:
        if self.attention.fold(self.norm):
            self.norm = nn.Identity()
        return self


__all__ = ["Compression"]
