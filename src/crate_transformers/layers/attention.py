"""Multi-head subspace self-attention (MSSA): one step that compresses the tokens.

    W_k = Z U_k,   head_k = softmax(W_k W_k^T / sqrt(p)) W_k,   MSSA(Z) = [head_1 ... head_K] O + b     [P1, eq. 11]

One projection plays query, key and value. As in the public code, and unlike the equation, the output projection O is
a matrix of its own with a bias, not U scaled, and the scores are scaled by p^-1/2.

Where some tokens alone are asked for, w_k = z U_k for each of them, no other is projected:

    softmax(w_k W_k^T / sqrt(p)) W_k = softmax((w_k U_k^T) Z^T / sqrt(p)) Z U_k

Shapes: B batch, N tokens, M tokens attended to (N, or N and what the cache holds), d hidden_size, K heads, p head_dim.

[P1] arXiv 2306.01129.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig

from .cache import extend
from .kernel import ATTENTION_FUNCTIONS
from .linear import Linear


def eager_subspace_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention by its definition, in the signature of transformers' attention interface.

    Args:
        query: (B, K, N, p). key, value: (B, K, M, p). attention_mask: broadcastable to (B, K, N, M), additive, or bool
            with True for what is seen. is_causal: without a mask, token i sees j <= i; None is the module's.

    Returns:
        mixed tokens (B, N, K, p) and the attention (B, K, N, M), whose rows sum to 1.
    """
    scores = query @ key.mT * scaling  # (B, K, N, M)
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    if attention_mask is None and causal and query.shape[2] > 1:
        attention_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    wide = torch.promote_types(scores.dtype, torch.float32)  # half precision is widened, float64 stays
    attention = torch.softmax(scores, dim=-1, dtype=wide).to(query.dtype)
    attention = nn.functional.dropout(attention, p=dropout, training=module.training)
    return (attention @ value).transpose(1, 2).contiguous(), attention


class SubspaceAttention(nn.Module):
    """MSSA (see the top of this file).

    The attention operator is the one named by `config._attn_implementation` (eager, sdpa, flash_attention_2/3,
    flex_attention, or any that is registered with transformers; see kernel.py), called with query = key = value.

    Args:
        config: hidden_size, num_attention_heads, head_dim, attention_probs_dropout_prob, attention_output_bias,
            attention_output_projection; `is_decoder` makes it causal.
        layer_idx: position of the layer, the address in the cache.
        num_heads, head_dim: instead of the configuration's (the decoder of the autoencoder may differ).
    """

    def __init__(
        self, config: PreTrainedConfig, layer_idx: int = 0, num_heads: int | None = None, head_dim: int | None = None
    ):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = num_heads or config.num_attention_heads
        self.head_dim = head_dim or config.head_dim
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = getattr(config, "is_decoder", False)
        inner = self.num_heads * self.head_dim
        self.subspaces = Linear(config.hidden_size, inner, bias=False)
        self.output: nn.Module = nn.Identity()
        if config.attention_output_projection:
            self.output = Linear(inner, config.hidden_size, bias=config.attention_output_bias)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        num_queries: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Mix the tokens within each subspace.

        Args:
            hidden_states: (B, N, d), after LayerNorm.
            attention_mask: what the attention operator takes (see transformers' masking_utils), or None.
            cache: the cache; one tensor a layer (see layers/cache.py).
            num_queries: mix only so many tokens, the first ones, with all of them; None: every token.
            kwargs: attn_implementation, instead of the configuration's; what the attention operator takes.

        Returns:
            (B, N, d), and the attention (B, K, N, M) where the operator gives it (eager), else None; N is num_queries
            where that is given.
        """
        if num_queries is not None and cache is None and self._can_absorb(hidden_states, attention_mask):
            return self._mix_first(hidden_states, attention_mask, num_queries, **kwargs)
        batch, num_tokens, _ = hidden_states.shape
        projected = self.subspaces(hidden_states).view(batch, num_tokens, self.num_heads, self.head_dim)
        projected = projected.transpose(1, 2)  # (B, K, N, p)
        queries = keys = values = projected
        if num_queries is not None:
            queries = projected[:, :, :num_queries]
            if isinstance(attention_mask, Tensor) and attention_mask.ndim == 4:
                attention_mask = attention_mask[:, :, :num_queries]
        if cache is not None:
            keys, values = extend(cache, projected, self.layer_idx, kwargs)  # (B, K, M, p)

        mixed, attention = self._attend(queries, keys, values, attention_mask, **kwargs)
        return self.output(mixed.flatten(2)), attention

    def _attend(
        self, *tokens_and_mask: Any, attn_implementation: str | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        name = attn_implementation or self.config._attn_implementation
        attend = ATTENTION_FUNCTIONS.get_interface(name, eager_subspace_attention)
        dropout = self.attention_dropout if self.training else 0.0
        return attend(self, *tokens_and_mask, dropout=dropout, scaling=self.scaling, **kwargs)

    def _can_absorb(self, hidden_states: Tensor, attention_mask: Any) -> bool:
        """Whether U is a plain matrix, and here (offloaded, it comes when its module is called), and the operator takes
        heads of width d and such a mask."""
        plain = type(self.subspaces) is Linear and type(self.subspaces.weight) is nn.Parameter
        plain = plain and self.subspaces.weight.device == hidden_states.device
        wide = self.config._attn_implementation in ("eager", "sdpa", "mssa", "torch_sdpa")
        return plain and wide and (attention_mask is None or attention_mask.ndim == 4)

    def _mix_first(
        self, hidden_states: Tensor, attention_mask: Tensor | None, num_queries: int, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """MSSA of the first n tokens: their K heads are n K queries to one head of width d, the tokens themselves."""
        bases = self.subspaces.weight.unflatten(0, (self.num_heads, self.head_dim))  # U_k^T (K, p, d)
        projected = self.subspaces(hidden_states[:, :num_queries]).unflatten(2, bases.shape[:2])  # (B, n, K, p)
        queries = torch.einsum("bnkp,kpd->bnkd", projected, bases)
        if attention_mask is not None:
            attention_mask = attention_mask[:, :, :num_queries].expand(-1, self.num_heads, num_queries, -1)
            attention_mask = attention_mask.transpose(1, 2).flatten(1, 2).unsqueeze(1)  # (B, 1, n K, M)
        tokens = hidden_states.unsqueeze(1)  # (B, 1, N, d)
        mixed, attention = self._attend(queries.flatten(1, 2).unsqueeze(1), tokens, tokens, attention_mask, **kwargs)
        mixed = torch.einsum("bnkd,kpd->bnkp", mixed.reshape(queries.shape), bases)
        if attention is not None:
            attention = attention.squeeze(1).unflatten(1, queries.shape[1:3]).transpose(1, 2)
        return self.output(mixed.flatten(2)), attention


__all__ = ["SubspaceAttention", "eager_subspace_attention"]
