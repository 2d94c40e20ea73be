"""The layer of the autoencoder's decoder, the mirror image of the encoder's: a linear map, then minus MSSA.

    X = A LN(Y),   Y_next = X - MSSA(LN(X))      [P4, eq. 13]

Shapes: B batch, N tokens, d hidden_size.

[P4] arXiv 2404.02446.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from ..ops import linear
from ..upstream import GradientCheckpointingLayer
from .block import Block
from .compression import OperatorStep, SubspaceAttention
from .layer_norm import block_norm
from .normalized_linear import NormalizedLinear


class LinearDictionary(Block):
    """X = A LN(Y): the plain linear map that opens a decoder layer. `weight` is A (d, d)."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.norm = block_norm(config)
        self.weight = nn.Parameter(torch.empty(config.hidden_size, config.hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return linear(self.norm(hidden_states), self.weight)

    def folded(self) -> nn.Module:
        return NormalizedLinear(self.norm, self.weight)


class Expansion(OperatorStep):
    """The anti-parallel of compression: Y_next = X - MSSA(LN(X))."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        heads = config.decoder_num_attention_heads
        super().__init__(config, SubspaceAttention(config, layer_idx, heads, config.hidden_size // heads))

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        compressed, _ = self.attention(self.norm(hidden_states), **kwargs)
        return hidden_states - self.increment(compressed)


class CrateDecoderLayer(GradientCheckpointingLayer):
    """A layer of the autoencoder's decoder."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        self.linear = LinearDictionary(config)
        self.expansion = Expansion(config, layer_idx)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Y_next (B, N, d) of Y (B, N, d)."""
        return self.expansion(self.linear(hidden_states), **kwargs)


__all__ = ["CrateDecoderLayer", "Expansion", "LinearDictionary"]
