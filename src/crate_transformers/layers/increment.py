"""What becomes of that which a step adds to its tokens: factors a channel, dropout, and whole samples that skip it.

    Z <- Z + drop_path(dropout(gamma * step(Z)))

Sources: LayerScale, arXiv 2103.17239; stochastic depth, arXiv 1603.09382.

Shapes: B batch, N tokens, d hidden_size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from .block import Block


class LayerScale(Block):
    """A learned factor for each channel. `factors` (d) start at config.layer_scale."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.start = config.layer_scale
        self.factors = nn.Parameter(torch.empty(config.hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.constant_(self.factors, self.start)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.factors * tokens


class DropPath(nn.Module):
    """Stochastic depth: in training a sample keeps its increment, scaled by 1 / (1 - rate), with chance 1 - rate."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, tokens: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return tokens
        kept = tokens.new_empty(tokens.shape[0], *[1] * (tokens.ndim - 1)).bernoulli_(1 - self.rate)
        return tokens * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class Increment(nn.Sequential):
    """All of it, in the order of the equation; what the configuration leaves out is not there."""

    def __init__(self, config: PreTrainedConfig):
        parts: dict[str, nn.Module] = {}
        if config.layer_scale is not None:
            parts["scale"] = LayerScale(config)
        parts["dropout"] = nn.Dropout(config.hidden_dropout_prob)
        if config.drop_path_rate:
            parts["drop_path"] = DropPath(config.drop_path_rate)
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


__all__ = ["DropPath", "Increment", "LayerScale"]
