"""Multi-head subspace self-attention as a module: one projection plays query, key and value.

    W_k = Z U_k,   head_k = softmax(W_k W_k^T / sqrt(p)) W_k,   MSSA(Z) = [head_1 ... head_K] O + b     [P1, eq. 11]

ops/mssa/equation.py says where this differs from the paper.

Shapes: B batch, N tokens, M tokens attended to (N, or N and what the cache holds), d hidden_size, K heads, p head_dim.

[P1] arXiv 2306.01129.
"""

from typing import Any

from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig

from ...ops import attend_first
from ..attention_names import ATTENTION_FUNCTIONS, eager_attention
from ..linear import Linear
from ..normalized_linear import NormalizedLinear
from .block import CompressionOperator
from .cache import extend


class SubspaceAttention(CompressionOperator):
    """MSSA (see the top of this file).

    The attention is the one named by `config._attn_implementation` (eager, sdpa, flash_attention_2/3, flex_attention,
    or any that is registered with transformers; see attention_names.py), called with query = key = value.

    Args:
        config: hidden_size, num_attention_heads, head_dim, attention_probs_dropout_prob, attention_output_bias,
            attention_output_projection; `is_decoder` makes it causal.
        layer_idx: position of the layer, the address in the cache.
        num_heads, head_dim: instead of the configuration's (the decoder of the autoencoder may differ).
    """

    gives_map = True

    def __init__(
        self, config: PreTrainedConfig, layer_idx: int = 0, num_heads: int | None = None, head_dim: int | None = None
    ):
        super().__init__(config, layer_idx)
        self.num_heads = num_heads or config.num_attention_heads
        self.head_dim = head_dim or config.head_dim
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = getattr(config, "is_decoder", False)
        inner = self.num_heads * self.head_dim
        self.subspaces: Linear | NormalizedLinear = Linear(config.hidden_size, inner, bias=False)
        self.output: nn.Module = nn.Identity()
        if config.attention_output_projection:
            self.output = Linear(inner, config.hidden_size, bias=config.attention_output_bias)

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
        projected = self.subspaces(hidden_states).unflatten(-1, (self.num_heads, self.head_dim))
        projected = projected.transpose(1, 2)  # (B, K, N, p)
        keys = values = projected
        if cache is not None:
            keys, values = extend(cache, projected, self.layer_idx, kwargs)  # (B, K, M, p)
        mixed, attention = self._attend(projected, keys, values, attention_mask, **kwargs)
        return self.output(mixed.flatten(2)), attention

    def mix_first(
        self, hidden_states: Tensor, num_tokens: int, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The first tokens, without projecting the others (ops/mssa/first_tokens.py); the subspaces are plain here."""
        bases = self.subspaces.weight.unflatten(0, (self.num_heads, self.head_dim))  # U_k^T (K, p, d)
        projected = self.subspaces(hidden_states[:, :num_tokens]).unflatten(-1, bases.shape[:2])  # (B, n, K, p)

        def attend(*tokens_and_mask: Any) -> tuple[Tensor, Tensor | None]:
            return self._attend(*tokens_and_mask, **kwargs)

        mixed, attention = attend_first(hidden_states, projected, bases, attention_mask, attend)
        return self.output(mixed.flatten(2)), attention

    def _attend(
        self, *tokens_and_mask: Any, attn_implementation: str | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        name = attn_implementation or self.config._attn_implementation
        attend = ATTENTION_FUNCTIONS.get_interface(name, eager_attention)
        dropout = self.attention_dropout if self.training else 0.0
        return attend(self, *tokens_and_mask, dropout=dropout, scaling=self.scaling, **kwargs)

    def bases(self) -> Tensor:
        return self.subspaces.weight

    def fold(self, norm: nn.LayerNorm) -> bool:
        """LayerNorm and U as one projection."""
        self.subspaces = NormalizedLinear(norm, self.subspaces.weight)
        return True


__all__ = ["SubspaceAttention"]
