"""Token statistics self-attention as a module: compression in time O(N d); ops/tssa/equation.py has the equations.

    W = Z V + b,   Pi = memberships of tokens in heads,   TSSA(Z)_k = - Pi_k W_k / (1 + s_k),   [head_1 ... head_K] O

Shapes: B batch, N tokens, d hidden_size, K heads, p head_dim.

Source: arXiv 2412.17810; the layouts of its two public models.
"""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig
from transformers import initialization as init

from ...ops import causal_memberships, causal_tssa, memberships, tssa
from ...ops.tssa import Statistics
from ..block import Block
from .cache import STATISTICS, StatisticsLayer
from .subspace_operator import SubspaceOperator


class Membership(Block):
    """Pi (B, N, K) of projected tokens (B, N, K, p); what it gives first is recorded as `memberships`.

    `temperature` is t (K, 1). `position_bias` is b (K, T), of the causal form alone.

    Args:
        num_heads: K. num_positions: T of the causal form, else None.
    """

    def __init__(self, num_heads: int, num_positions: int | None):
        super().__init__()
        self.temperature = nn.Parameter(torch.empty(num_heads, 1))
        self.position_bias: nn.Parameter | None = None
        if num_positions is not None:
            self.position_bias = nn.Parameter(torch.empty(num_heads, num_positions))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.ones_(self.temperature)
        if self.position_bias is not None:
            init.zeros_(self.position_bias)

    def forward(
        self,
        projected: Tensor,
        is_token: Tensor | None = None,
        past: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Pi (B, N, K), and in the causal form S (B, K, p) after the last token.

        Args:
            projected: W (B, N, K, p). is_token: (B, N), False for padding. past: S (B, K, p). positions: (B or 1, N).
        """
        if self.position_bias is None:
            return memberships(projected, self.temperature, is_token), None
        bias = self.position_bias.mT[positions]  # (B or 1, N, K)
        return causal_memberships(projected, self.temperature, bias, past, is_token)


class TokenStatisticsAttention(SubspaceOperator):
    """TSSA (see the top of this file).

    Args:
        config: of `SubspaceOperator`, qkv_bias, attention_probs_dropout_prob; `is_decoder` makes it causal, with a bias
            for each of the max_sequence_length positions.
        layer_idx: position of the layer, the address in the cache.
    """

    rate_of = "memberships"
    cache_layers = STATISTICS
    keeps_tokens = False
    reads_mask = False

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__(config, layer_idx, bias=config.qkv_bias)
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = getattr(config, "is_decoder", False)
        self.membership = Membership(self.num_heads, config.max_sequence_length if self.is_causal else None)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        is_token: Tensor | None = None,
        token_positions: Tensor | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, None]:
        """Shrink the tokens within each head.

        Args:
            hidden_states: (B, N, d), after LayerNorm.
            attention_mask: not read; which tokens are padding is said by is_token.
            cache: of a decoder; it holds the statistics of the past (see cache.py).
            is_token: (B, N), False for padding; None: all are tokens.
            token_positions: (B or 1, N), counted from 0; None: tokens are counted.

        Returns:
            (B, N, d), and None: there is no N x N map.
        """
        projected = self.project(hidden_states)  # W (B, N, K, p)
        if self.is_causal:
            heads = self._step_causally(projected, cache, is_token, token_positions)
        else:
            heads = self._step(projected, is_token)
        return self.expand(heads), None

    def mix_first(
        self,
        hidden_states: Tensor,
        num_tokens: int,
        attention_mask: Tensor | None = None,
        is_token: Tensor | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, None]:
        """The first tokens; the statistics are of all."""
        return self.expand(self._step(self.project(hidden_states), is_token)[:, :num_tokens]), None

    def _step(self, projected: Tensor, is_token: Tensor | None) -> Tensor:
        pi, _ = self.membership(projected, is_token)
        return tssa(projected, pi, self.attention_dropout if self.training else 0.0)

    def _step_causally(
        self, projected: Tensor, cache: Cache | None, is_token: Tensor | None, positions: Tensor | None
    ) -> Tensor:
        layer = None if cache is None else cast(StatisticsLayer, cache.layers[self.layer_idx])
        past = None if layer is None else layer.statistics
        if positions is None:
            positions = _count(projected, is_token) + (0 if layer is None else layer.num_real)
        past_squares, *past_rest = past or (None, None, None)
        pi, squares = self.membership(projected, is_token, past_squares, positions)
        dropout = self.attention_dropout if self.training else 0.0
        heads, weighted, mass = causal_tssa(projected, pi, *past_rest, dropout)
        if layer is not None:
            layer.keep(Statistics(squares, weighted, mass), projected.shape[1], is_token)
        return heads


def _count(projected: Tensor, is_token: Tensor | None) -> Tensor:
    """Positions (B or 1, N) from 0; padding does not count."""
    if is_token is None:
        return torch.arange(projected.shape[1], device=projected.device)[None]
    return (is_token.long().cumsum(dim=1) - 1).clamp(min=0)


__all__ = ["Membership", "TokenStatisticsAttention"]
