"""What an operator that compresses is: tokens in, mixed tokens out. `configuration/blocks.py` gives it a name.

Shapes: B batch, N tokens, d hidden_size, K heads, p head_dim.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..block import Block
from .cache import Replacements


class CompressionOperator(Block, ABC):
    """One operator of the `compression` field.

    `gives_map` says whether `forward` can give the N x N map of who mixes whom. Where the operator has a module called
    `subspaces`, whose output (B, N, K p) are the projected tokens, that is recorded as `subspace_projections`; without
    it the operator has no subspaces, and no coding rate under them. `rate_of` says what is coded there: the tokens in
    "subspaces" U_k, "values", which have no one set of subspaces, or tokens in their "memberships" of heads, whose rate
    is the variational one.

    `reads_mask` says whether `forward` obeys an attention mask; an operator that does not is told which tokens are
    padding, and can take no other mask.

    `takes_any_grid` is False of an operator whose images must be of a square grid of patches; an exported model of it
    takes images of one size.

    What a decoder keeps of the past: `cache_layers` says what replaces an empty cache layer of transformers, by its
    class. Without `keeps_tokens` nothing but those layers will do.

    Args:
        config: of the model. layer_idx: position of the layer, the address in the cache.
    """

    gives_map = False
    rate_of: Literal["subspaces", "values", "memberships"] = "subspaces"
    cache_layers: ClassVar[Replacements] = {}
    keeps_tokens = True
    reads_mask = True
    takes_any_grid = True

    def __init__(self, config: PreTrainedConfig, layer_idx: int = 0):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx

    @abstractmethod
    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, cache: Any = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Mixed tokens (B, N, d) of normalised tokens (B, N, d), and the N x N map where there is one and it is asked.

        Args:
            attention_mask: what transformers' attention takes, or None. cache: of a decoder.
            kwargs: is_token (B, N), False for padding, and token_positions (B or 1, N), for operators that read no
                mask; what transformers' attention takes.
        """

    def mix_first(
        self, hidden_states: Tensor, num_tokens: int, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The first mixed tokens alone (B, num_tokens, d); an operator that can make them for less says how."""
        mixed, attention = self(hidden_states, attention_mask, **kwargs)
        return mixed[:, :num_tokens], None if attention is None else attention[:, :, :num_tokens]

    def fold(self, norm: nn.LayerNorm) -> bool:
        """Take the LayerNorm before the operator into its weights.

        Returns:
            whether it did; the caller leaves the LayerNorm out then.
        """
        return False

    def bases(self) -> Tensor | None:
        """U^T (K p, d), the bases of the subspaces one under the other; None where there is no such thing."""
        return None


__all__ = ["CompressionOperator"]
