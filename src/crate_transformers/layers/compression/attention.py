"""Attention by name: the operator that `config._attn_implementation` names, for operators with N x N scores.

Shapes: B batch, N tokens, M tokens attended to, K heads, p head_dim.
"""

from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig

from ..attention_names import ATTENTION_FUNCTIONS, eager_attention
from .subspace_operator import SubspaceOperator


class AttentionOperator(SubspaceOperator):
    """An operator with attention: eager, sdpa, flash_attention_2/3, flex_attention, or any that is registered with
    transformers (see attention_names.py).

    Args:
        config: of `SubspaceOperator`, and attention_probs_dropout_prob; `is_decoder` makes it causal. The others are
            those of `SubspaceOperator`.
    """

    gives_map = True

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = getattr(config, "is_decoder", False)

    def attend(
        self, *tokens_and_mask: Any, attn_implementation: str | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Mixed values (B, N, K, p), and the attention (B, K, N, M) where it is given, of queries (B, K, N, p), keys
        and values (B, K, M, p), and a mask."""
        name = attn_implementation or self.config._attn_implementation
        attend = ATTENTION_FUNCTIONS.get_interface(name, eager_attention)
        dropout = self.attention_dropout if self.training else 0.0
        return attend(self, *tokens_and_mask, dropout=dropout, scaling=self.scaling, **kwargs)


__all__ = ["AttentionOperator"]
