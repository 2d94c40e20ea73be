"""No sparsification: the layer is its compression alone, as in the attention-only transformer (arXiv 2506.03790)."""

from torch import Tensor
from transformers import PreTrainedConfig

from .block import SparsificationStep


class NoSparsification(SparsificationStep):
    """Z_next = Z_half. The tokens stand for the code."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()

    def forward(self, half_hidden_states: Tensor) -> Tensor:
        """Z_half (B, N, d) as it is."""
        return half_hidden_states


__all__ = ["NoSparsification"]
