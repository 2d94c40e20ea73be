"""From images to patches and patch tokens.

Shapes: B batch, C channels, H x W pixels, h x w patch, N = (H / h)(W / w) patches, d hidden_size.
"""

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...configuration.validation import as_pair
from ..linear import Linear
from .stem import ConvStemEmbeddings


def patchify(pixel_values: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Cut images into patches, flattened in the order (row in patch, column in patch, channel).

    Args:
        pixel_values: (B, C, H, W). patch_size: (h, w).

    Returns:
        (B, N, h * w * C).
    """
    batch, channels, height, width = pixel_values.shape
    h, w = patch_size
    patches = pixel_values.reshape(batch, channels, height // h, h, width // w, w)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, (height // h) * (width // w), h * w * channels)


def unpatchify(patches: Tensor, patch_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Inverse of `patchify`: (B, N, h * w * C) and the grid (rows, columns) back to images (B, C, H, W)."""
    batch, (rows, columns), (h, w) = patches.shape[0], grid, patch_size
    channels = patches.shape[-1] // (h * w)
    images = patches.reshape(batch, rows, columns, h, w, channels)
    return images.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, rows * h, columns * w)


class NormalizedPatchEmbeddings(nn.Module):
    """Patches to tokens as the classifier does: LayerNorm, Linear, LayerNorm."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.patch_size = as_pair(config.patch_size)
        patch_dim = config.num_channels * self.patch_size[0] * self.patch_size[1]
        self.patch_norm = nn.LayerNorm(patch_dim, eps=config.layer_norm_eps)
        self.projection = Linear(patch_dim, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, d)."""
        patches = patchify(pixel_values, self.patch_size).to(self.projection.weight.dtype)
        return self.norm(self.projection(self.patch_norm(patches)))


class ConvPatchEmbeddings(nn.Module):
    """Patches to tokens as the autoencoder does: one convolution whose stride is the patch."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.patch_size = as_pair(config.patch_size)
        self.projection = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=self.patch_size, stride=self.patch_size
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, d)."""
        return self.projection(pixel_values.to(self.projection.weight.dtype)).flatten(2).mT


PATCH_EMBEDDINGS: dict[str, type[nn.Module]] = {
    "normalized": NormalizedPatchEmbeddings,
    "convolution": ConvPatchEmbeddings,
    "conv_stem": ConvStemEmbeddings,
}

__all__ = ["PATCH_EMBEDDINGS", "ConvPatchEmbeddings", "NormalizedPatchEmbeddings", "patchify", "unpatchify"]
