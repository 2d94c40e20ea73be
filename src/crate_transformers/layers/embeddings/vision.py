"""From images to the first tokens of a classifier: class token, patches, learned positions.

Shapes: B batch, C channels, H x W pixels, N patches, d hidden_size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from .patches import PATCH_EMBEDDINGS
from .positions import resample_positions


class VisionEmbeddings(nn.Module):
    """Class token and patch tokens, plus learned positions."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        self.patch_embeddings = PATCH_EMBEDDINGS[config.patch_embedding](config)
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.randn(1, config.num_patches + 1, config.hidden_size))
        self.dropout = nn.Dropout(config.embedding_dropout_prob)

    def forward(self, pixel_values: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """(B, C, H, W) -> (B, 1 + N, d), the class token first.

        Args:
            grid: (rows, columns) of patches to which the positions are resampled; None: they fit as they are.
        """
        patches = self.patch_embeddings(pixel_values)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        positions = self.position_embeddings
        if grid is not None:
            positions = resample_positions(positions, self.config.patch_grid, grid, self.config.interpolate_offset)
        return self.dropout(tokens + positions)


__all__ = ["VisionEmbeddings"]
