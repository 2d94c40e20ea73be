"""ToST for text: the causal language model whose layers keep statistics of the past instead of its tokens.

    Z_half = Z + g_1 TSSA(LN(Z)),   Z_next = Z_half + g_2 MLP(LN(Z_half));   logits = LN(Z_L) E^T

It is the shell of `CrateModel`, with the blocks `tssa` and `mlp`; its cache is 2 d + K numbers a layer, whatever the
length.

Source: arXiv 2412.17810; the layout of its public language model.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

from ..configuration import TostConfig
from ..layers import FeedForward, SubspaceOperator
from .modeling_crate import CrateForCausalLM, CrateModel, CrateTextPreTrainedModel


class TostPreTrainedModel(CrateTextPreTrainedModel):
    config: TostConfig
    config_class = TostConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SubspaceOperator | FeedForward) and isinstance(module.output, nn.Linear):
            layers = self.config.num_hidden_layers  # two increments each
            init.normal_(module.output.weight, std=self.config.initializer_range / math.sqrt(2 * layers))


class TostModel(TostPreTrainedModel, CrateModel):
    """The backbone: text tokens to representations; arguments as in `CrateModel.forward`.

    Example:
        >>> config = TostConfig(vocab_size=99, hidden_size=48, num_hidden_layers=2, num_attention_heads=3)
        >>> TostModel(config)(torch.tensor([[5, 7, 9]])).last_hidden_state.shape
        torch.Size([1, 3, 48])
    """

    def __init__(self, config: TostConfig, add_pooling_layer: bool = False):
        super().__init__(config, add_pooling_layer)


class TostForCausalLM(TostPreTrainedModel, CrateForCausalLM):
    """Predict the next token; arguments as in `CrateForCausalLM.forward`.

    Example:
        >>> sizes = {"vocab_size": 99, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> config = TostConfig(hidden_size=48, num_attention_heads=3, **sizes)
        >>> TostForCausalLM(config)(torch.tensor([[5, 7, 9]])).logits.shape
        torch.Size([1, 3, 99])
    """

    backbone_class = TostModel


__all__ = ["TostForCausalLM", "TostModel", "TostPreTrainedModel"]
