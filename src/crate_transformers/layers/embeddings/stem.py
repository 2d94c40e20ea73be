"""From images to patch tokens by a stack of small convolutions, as in CBT and ToST.

    (3 x 3 convolution of stride 2, BatchNorm, gelu) again and again, no gelu after the last

A side of m pixels becomes ceil(m / 2) each time, so any size is taken: a patch of 16 pixels has four convolutions, one
of 8 three. Widths double up to d.

Shapes: B batch, C channels, H x W pixels, N patches, d hidden_size.

Source: the stem of XCiT (arXiv 2106.09681), in the layouts of ToST and CBT.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig

from ...configuration.validation import as_pair


class ConvStage(nn.Module):
    """One convolution and its BatchNorm: a side of m pixels becomes ceil(m / 2)."""

    def __init__(self, num_inputs: int, num_outputs: int):
        super().__init__()
        self.convolution = nn.Conv2d(num_inputs, num_outputs, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(num_outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.norm(self.convolution(pictures))


class ConvStemEmbeddings(nn.Module):
    """Patches to tokens by a stack of convolutions; `stages` holds them."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        depth = int(math.log2(as_pair(config.patch_size)[0]))
        widths = [config.hidden_size // 2 ** (depth - 1 - stage) for stage in range(depth)]
        inputs = [config.num_channels, *widths[:-1]]
        self.stages = nn.ModuleList(map(ConvStage, inputs, widths))

    def feature_map(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, d, rows, columns)."""
        # channels last: narrow convolutions are faster so, and tokens come out as rows
        features = pixel_values.to(next(self.parameters()).dtype, memory_format=torch.channels_last)
        for number, stage in enumerate(self.stages):
            features = stage(F.gelu(features) if number else features)
        return features

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, d), row by row."""
        return self.feature_map(pixel_values).flatten(2).mT


__all__ = ["ConvStage", "ConvStemEmbeddings"]
