"""The CRATE layer, compress then sparsify, and the decoder layer, its mirror image.

    encoder:  Z_half = Z + MSSA(LN(Z)),  Z_next = ISTA(LN(Z_half))      [P1, eq. 14]
    decoder:  X = A LN(Y),               Y_next = X - MSSA(LN(X))       [P4, eq. 13]

The residual is x + attn(LN(x)), as in the public code (one paper's pseudo-code prints LN(x) on both sides).

Shapes: B batch, N tokens, d hidden_size.

[P1] arXiv 2306.01129. [P4] arXiv 2404.02446.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig

from ..upstream import GradientCheckpointingLayer
from .attention import SubspaceAttention
from .linear import Linear, linear
from .sparsification import Sparsification


def is_watched(module: nn.Module) -> bool:
    """Whether a hook is on a module or in it; torch's global hooks, which profile what is run, are not asked."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, kind) for part in module.modules() for kind in hooks)


class Compression(nn.Module):
    """One step that compresses: Z_half = Z + MSSA(LN(Z))."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.attention = SubspaceAttention(config, layer_idx)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        num_queries: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Z_half (B, N, d) of Z (B, N, d); of the first num_queries tokens alone, where that is given."""
        compressed, _ = self.attention(self.norm(hidden_states), attention_mask, num_queries=num_queries, **kwargs)
        compressed = self.dropout(compressed)
        read = hidden_states if num_queries is None else hidden_states[:, :num_queries]
        return compressed.add_(read) if self._may_overwrite(compressed, read) else read + compressed

    def _may_overwrite(self, compressed: Tensor, read: Tensor) -> bool:
        """Whether MSSA's output is new, of the sum's type (autocast mixes them), and no gradient or hook needs it."""
        plain = not compressed.requires_grad and compressed.dtype == read.dtype
        return plain and type(self.attention.output) is Linear and not is_watched(self)


class CrateLayer(GradientCheckpointingLayer):
    """One iteration of the alternating minimisation: compress, sparsify."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        self.compression = Compression(config, layer_idx)
        self.sparsification = Sparsification(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Z_next (B, N, d) of Z (B, N, d); attention_mask, cache, num_queries as in SubspaceAttention."""
        half_hidden_states = self.compression(hidden_states, attention_mask, cache=cache, **kwargs)
        return self.sparsification(half_hidden_states)


class LinearDictionary(nn.Module):
    """X = A LN(Y): the plain linear map that opens a decoder layer. `weight` is A (d, d)."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.weight = nn.Parameter(torch.empty(config.hidden_size, config.hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return linear(self.norm(hidden_states), self.weight)


class Expansion(nn.Module):
    """The anti-parallel of compression: Y_next = X - MSSA(LN(X))."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        heads = config.decoder_num_attention_heads
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.attention = SubspaceAttention(config, layer_idx, heads, config.hidden_size // heads)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        compressed, _ = self.attention(self.norm(hidden_states), **kwargs)
        return hidden_states - self.dropout(compressed)


class CrateDecoderLayer(GradientCheckpointingLayer):
    """A layer of the autoencoder's decoder: the linear map first, then minus MSSA."""

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        self.linear = LinearDictionary(config)
        self.expansion = Expansion(config, layer_idx)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """Y_next (B, N, d) of Y (B, N, d)."""
        return self.expansion(self.linear(hidden_states), **kwargs)


__all__ = ["Compression", "CrateDecoderLayer", "CrateLayer", "Expansion", "LinearDictionary", "is_watched"]
