"""From images to the first tokens of ToST: the stem, and Fourier features of each patch's place.

Shapes: B batch, C channels, H x W pixels, N patches, d hidden_size.
"""

from torch import Tensor, nn
from transformers import PreTrainedConfig

from .positions import fourier_positions
from .stem import ConvStemEmbeddings

_FEATURES = 32  # Fourier features an axis


class TostEmbeddings(nn.Module):
    """Patch tokens plus projected Fourier positions; any size of image."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.patch_embeddings = ConvStemEmbeddings(config)
        self.position_projection = nn.Linear(2 * _FEATURES, config.hidden_size)
        self.adds_positions = config.position_embedding
        self.position_projection.requires_grad_(self.adds_positions)  # its weights are kept, as in the public layout

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, d), row by row."""
        features = self.patch_embeddings.feature_map(pixel_values)  # (B, d, rows, columns)
        patches = features.flatten(2).mT
        if not self.adds_positions:
            return patches
        rows, columns = features.shape[-2:]
        positions = fourier_positions((rows, columns), _FEATURES, device=patches.device)
        return patches + self.position_projection(positions.to(patches.dtype))


__all__ = ["TostEmbeddings"]
