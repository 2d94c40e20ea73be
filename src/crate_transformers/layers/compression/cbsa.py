"""Contract-and-broadcast self-attention as a module: compression by way of representatives.

ops/cbsa/equation.py has the equations, and what the published form pools.

Shapes: B batch, N tokens (class token and patches), d hidden_size, K heads, p head_dim, m representatives.

Source: arXiv 2509.16875; the layout of its public model.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from ...ops import cbsa
from ...ops.cbsa import extraction, representatives
from .subspace_operator import SubspaceOperator


class ContractBroadcastAttention(SubspaceOperator):
    """CBSA (see the top of this file). `step_tokens` is eps, `step_representatives` eta, (K, 1, 1) each.

    Its map is A^T A, with A as in the equations; where it is asked for, the steps are taken by the equations.

    Args:
        config: of `SubspaceOperator`, representatives, representatives_from. layer_idx: position of the layer.
    """

    gives_map = True
    reads_mask = False
    takes_any_grid = False

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__(config, layer_idx)
        self.grid = tuple(config.representatives)
        self.pools_first = config.representatives_from == "first"
        self.step_tokens = nn.Parameter(torch.empty(self.num_heads, 1, 1))
        self.step_representatives = nn.Parameter(torch.empty(self.num_heads, 1, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.step_tokens)
        init.normal_(self.step_representatives)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: object = None,
        attn_implementation: str | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor | None]:
        """Mix the tokens by way of representatives.

        Args:
            hidden_states: (B, N, d), after LayerNorm, the class token first.
            attention_mask, cache: none; images have neither.
            attn_implementation: "eager" gives the map; None is the configuration's.

        Returns:
            (B, N, d), and A^T A (B, K, N, N) where it is asked for, else None.

        Raises:
            ValueError: N - 1 patches make no square.
        """
        projected = self.project(hidden_states)  # W (B, N, K, p)
        pooled = representatives(projected, self.grid, self.pools_first)
        heads = cbsa(projected, pooled, self.step_tokens, self.step_representatives)
        if (attn_implementation or self.config._attn_implementation) != "eager":
            return self.expand(heads), None
        attention = extraction(projected, pooled)
        return self.expand(heads), attention.mT @ attention


__all__ = ["ContractBroadcastAttention"]
