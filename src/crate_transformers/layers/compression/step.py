"""The step that compresses: an operator of the `compression` field between a LayerNorm and a residual.

    Z_half = Z + MSSA(LN(Z))      [P1, eq. 14]

The residual is x + attn(LN(x)), as in the public code (one paper's pseudo-code prints LN(x) on both sides).

Shapes: B batch, N tokens, d hidden_size.

[P1] arXiv 2306.01129.
"""

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...configuration.blocks import COMPRESSIONS, name_of_layer
from ..block import Block
from ..increment import Increment
from ..layer_norm import block_norm
from .block import CompressionOperator


class OperatorStep(Block):
    """A LayerNorm or none, an operator that mixes the tokens, what becomes of its increment.

    Subclasses say what is done with what they give.
    """

    def __init__(self, config: PreTrainedConfig, operator: CompressionOperator):
        super().__init__()
        self.normalises = config.compression_norm
        self.norm: nn.Module = block_norm(config) if self.normalises else nn.Identity()
        self.attention = operator
        self.increment = Increment(config)

    def folded(self) -> nn.Module:
        if self.normalises and self.attention.fold(cast(nn.LayerNorm, self.norm)):
            self.norm, self.normalises = nn.Identity(), False
        return self


class Compression(OperatorStep):
    """One step that compresses, by the operator that the configuration names for this layer."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        name = name_of_layer(config.compression, layer_idx)
        super().__init__(config, COMPRESSIONS[name].load()(config, layer_idx))

    def forward(self, hidden_states: Tensor, num_read: int | None = None, **kwargs: Any) -> Tensor:
        """Z_half (B, N, d) of Z (B, N, d); of the first num_read tokens alone, where that is given."""
        if num_read is None:
            compressed, _ = self.attention(self.norm(hidden_states), **kwargs)
            return hidden_states + self.increment(compressed)
        compressed, _ = self.attention.mix_first(self.norm(hidden_states), num_read, **kwargs)
        return hidden_states[:, :num_read] + self.increment(compressed)


__all__ = ["Compression", "OperatorStep"]
