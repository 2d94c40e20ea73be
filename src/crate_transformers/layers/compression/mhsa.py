"""Multi-head self-attention, the operator that MSSA replaces: three projections instead of one.

    Q_k = Z A_k,  K_k = Z B_k,  V_k = Z U_k,   head_k = softmax(Q_k K_k^T / sqrt(p)) V_k,   [head_1 ... head_K] O + b

There is no one set of subspaces here. The values are what is mixed, so their projection takes the place of U where
rates are measured.

Shapes: B batch, N tokens, M tokens attended to (N, or N and what the cache holds), d hidden_size, K heads, p head_dim.

Source: arXiv 1706.03762.
"""

from typing import Any

from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig

from ..linear import Linear
from .attention import AttentionOperator
from .cache import extend


class MultiHeadAttention(AttentionOperator):
    """MHSA (see the top of this file); `subspaces` projects to the values.

    Args:
        config: of `AttentionOperator`, and qkv_bias. layer_idx: position of the layer, the address in the cache.
    """

    rate_of = "values"

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__(config, layer_idx, bias=config.qkv_bias)
        inner = self.num_heads * self.head_dim
        self.queries = Linear(config.hidden_size, inner, bias=config.qkv_bias)
        self.keys = Linear(config.hidden_size, inner, bias=config.qkv_bias)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, cache: Cache | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Mix the values; arguments and result as in `SubspaceAttention.forward`."""
        return self._mix(hidden_states, hidden_states, attention_mask, cache, **kwargs)

    def mix_first(
        self,
        hidden_states: Tensor,
        num_tokens: int,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The first tokens: their queries alone."""
        mask = None if attention_mask is None else attention_mask[:, :, :num_tokens]
        return self._mix(hidden_states[:, :num_tokens], hidden_states, mask, cache, **kwargs)

    def _mix(
        self, asking: Tensor, asked: Tensor, mask: Tensor | None, cache: Cache | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        shape = (self.num_heads, self.head_dim)
        queries = self.queries(asking).unflatten(-1, shape).transpose(1, 2)  # (B, K, N, p)
        keys = self.keys(asked).unflatten(-1, shape).transpose(1, 2)
        values = self.project(asked).transpose(1, 2)  # (B, K, M, p)
        if cache is not None:
            keys, values = extend(cache, keys, values, self.layer_idx, kwargs)
        mixed, attention = self.attend(queries, keys, values, mask, **kwargs)
        return self.expand(mixed), attention

    def fold(self, norm: nn.LayerNorm) -> bool:
        """Nothing: three projections would each normalise the tokens."""
        return False


__all__ = ["MultiHeadAttention"]
