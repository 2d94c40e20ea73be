"""Multi-head subspace self-attention as a module: one projection plays query, key and value.

    W_k = Z U_k,   head_k = softmax(W_k W_k^T / sqrt(p)) W_k,   MSSA(Z) = [head_1 ... head_K] O + b     [P1, eq. 11]

ops/mssa/equation.py says where this differs from the paper.

Shapes: B batch, N tokens, M tokens attended to (N, or N and what the cache holds), d hidden_size, K heads, p head_dim.

[P1] arXiv 2306.01129.
"""

from typing import Any

from torch import Tensor
from transformers import Cache, PreTrainedConfig

from ...ops import attend_first
from .attention import AttentionOperator
from .cache import ONE_TENSOR, extend


class SubspaceAttention(AttentionOperator):
    """MSSA (see the top of this file), by the attention of `AttentionOperator` with query = key = value.

    Args:
        config, layer_idx, num_heads, head_dim: as in `SubspaceOperator`.
    """

    cache_layers = ONE_TENSOR

    def __init__(
        self, config: PreTrainedConfig, layer_idx: int = 0, num_heads: int | None = None, head_dim: int | None = None
    ):
        super().__init__(config, layer_idx, num_heads, head_dim)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, cache: Cache | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Mix the tokens within each subspace.

        Args:
            hidden_states: (B, N, d), after LayerNorm.
            attention_mask: what the attention takes (see transformers' masking_utils), or None.
            cache: the cache; one tensor a layer (see cache.py).
            kwargs: attn_implementation, instead of the configuration's; what the attention takes.

        Returns:
            (B, N, d), and the attention (B, K, N, M) where it is given (eager), else None.
        """
        projected = self.project(hidden_states).transpose(1, 2)  # (B, K, N, p)
        keys = values = projected
        if cache is not None:
            keys, values = extend(cache, projected, projected, self.layer_idx, kwargs)  # (B, K, M, p)
        mixed, attention = self.attend(projected, keys, values, attention_mask, **kwargs)
        return self.expand(mixed), attention

    def mix_first(
        self, hidden_states: Tensor, num_tokens: int, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The first tokens, without projecting the others (ops/mssa/first_tokens.py); the subspaces are plain here."""
        bases = self.subspaces.weight.unflatten(0, (self.num_heads, self.head_dim))  # U_k^T (K, p, d)
        projected = self.project(hidden_states[:, :num_tokens])  # (B, n, K, p)

        def attend(*tokens_and_mask: Any) -> tuple[Tensor, Tensor | None]:
            return self.attend(*tokens_and_mask, **kwargs)

        mixed, attention = attend_first(hidden_states, projected, bases, attention_mask, attend)
        return self.expand(mixed), attention


__all__ = ["SubspaceAttention"]
