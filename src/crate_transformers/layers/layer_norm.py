"""The LayerNorm of a layer, of its configuration: epsilon and bias."""

from torch import nn
from transformers import PreTrainedConfig


def block_norm(config: PreTrainedConfig) -> nn.LayerNorm:
    """A LayerNorm of tokens (..., d) inside a layer."""
    return nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps, bias=config.layer_norm_bias)


__all__ = ["block_norm"]
