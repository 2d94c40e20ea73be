"""The CRATE layer: compress, then sparsify.

    Z_half = Z + MSSA(LN(Z)),  Z_next = ISTA(LN(Z_half))      [P1, eq. 14]

Which blocks do it is said by the fields `compression` and `sparsification`.

Shapes: B batch, N tokens, d hidden_size.

[P1] arXiv 2306.01129.
"""

from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig

from ..configuration.blocks import SPARSIFICATIONS, name_of_layer
from ..upstream import GradientCheckpointingLayer
from .compression import Compression


class CrateLayer(GradientCheckpointingLayer):
    """One iteration of the alternating minimisation of sparse rate reduction."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        name = name_of_layer(config.sparsification, layer_idx)
        self.compression = Compression(config, layer_idx)
        self.sparsification = SPARSIFICATIONS[name].load()(config)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Z_next (B, N, d) of Z (B, N, d).

        Args:
            attention_mask, cache: as in `CompressionOperator`. num_read: make the first so many tokens alone.
        """
        half_hidden_states = self.compression(hidden_states, attention_mask=attention_mask, **kwargs)
        return self.sparsification(half_hidden_states)


__all__ = ["CrateLayer"]
