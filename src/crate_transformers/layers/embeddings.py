"""From images and text to the first tokens.

Shapes: B batch, C channels, H x W pixels, h x w patch, N = (H / h)(W / w) patches, T text tokens, d hidden_size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..configuration.validation import as_pair
from ..errors import UserError
from .linear import Linear
from .positions import resample_positions


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


def check_image(pixel_values: Tensor, config: PreTrainedConfig, interpolate_pos_encoding: bool) -> tuple[int, int]:
    """The patch grid (rows, columns) of a batch of images, or an error that says what does not fit.

    Of sizes that an exported program leaves free nothing is asked here: the program states what it takes.
    """
    if pixel_values.ndim != 4:
        raise UserError(f"pixel_values must be (batch, channels, height, width), got {tuple(pixel_values.shape)}")
    _, channels, height, width = pixel_values.shape
    if channels != config.num_channels:
        raise UserError(
            f"expected {config.num_channels} channels, got {channels}: convert the images, or build the model with "
            f"num_channels={channels}"
        )
    image, (patch_height, patch_width) = as_pair(config.image_size), as_pair(config.patch_size)
    if torch.compiler.is_exporting() and interpolate_pos_encoding:
        return height // patch_height, width // patch_width
    if (height, width) != image and not interpolate_pos_encoding:
        raise UserError(
            f"expected images of {image[0]} x {image[1]} pixels, got {height} x {width}: resize them, or pass "
            "interpolate_pos_encoding=True to resample the positions"
        )
    if height % patch_height or width % patch_width or height < patch_height or width < patch_width:
        raise UserError(
            f"an image of {height} x {width} pixels cannot be cut into patches of {patch_height} x {patch_width}: "
            "resize or pad it to a multiple"
        )
    return height // patch_height, width // patch_width


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


_PATCH_EMBEDDINGS = {"normalized": NormalizedPatchEmbeddings, "convolution": ConvPatchEmbeddings}


class VisionEmbeddings(nn.Module):
    """Class token and patch tokens, plus learned positions."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        self.patch_embeddings = _PATCH_EMBEDDINGS[config.patch_embedding](config)
        self.cls_token = nn.Parameter(torch.randn(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.randn(1, config.num_patches + 1, config.hidden_size))
        self.dropout = nn.Dropout(config.embedding_dropout_prob)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, 1 + N, d), the class token first.

        Raises:
            ValueError: channels or sizes that do not fit the configuration.
        """
        grid = check_image(pixel_values, self.config, interpolate_pos_encoding)
        patches = self.patch_embeddings(pixel_values)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.dropout(tokens + resample_positions(self.position_embeddings, self.config.patch_grid, grid))


class TextEmbeddings(nn.Module):
    """Word, position and token-type embeddings, with or without a LayerNorm (see CrateConfig)."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        width, offset = config.hidden_size, config.position_offset
        # where positions count from zero, padding has no rows of its own: its token may well be the end of text
        self.word_embeddings: nn.Module = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id if offset else None
        )
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, width, padding_idx=offset - 1 if offset else None
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.embedding_layer_norm else nn.Identity()
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_length: int | Tensor = 0,
    ) -> Tensor:
        """Tokens (B, T) or their embeddings (B, T, d) -> (B, T, d).

        Args:
            position_ids: (B, T) or (1, T), rows of the position table. None: counted from `position_offset`, without
                counting padding (of embeddings: tokens that are embedded as the padding is).
            attention_mask: (B, past + T), 1 for a token, used to count positions where the offset is 0.
            past_length: tokens in the cache.
        """
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        if position_ids is None:
            position_ids = self._count_positions(input_ids, inputs_embeds, attention_mask, past_length)
        embeddings = inputs_embeds + self.position_embeddings(position_ids)
        if self.token_type_embeddings is not None:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            embeddings = embeddings + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.norm(embeddings))

    def _count_positions(
        self, input_ids: Tensor | None, inputs_embeds: Tensor, attention_mask: Tensor | None, past_length: int | Tensor
    ) -> Tensor:
        offset, num_tokens, pad = self.config.position_offset, inputs_embeds.shape[1], self.config.pad_token_id
        if offset and pad is not None:  # padding keeps the row before the first position
            if input_ids is not None:
                is_token = input_ids.ne(pad).long()
            else:  # its embedding gives it away
                padding = self.word_embeddings(torch.full((1,), pad, device=inputs_embeds.device))
                is_token = inputs_embeds.ne(padding).any(dim=-1).long()
            return (is_token.cumsum(dim=1) + past_length) * is_token + offset - 1
        if not offset and attention_mask is not None and attention_mask.ndim == 2:  # left padding does not count
            positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
            return positions[:, -num_tokens:]
        return (torch.arange(num_tokens, device=inputs_embeds.device) + past_length + offset).unsqueeze(0)


__all__ = [
    "ConvPatchEmbeddings",
    "NormalizedPatchEmbeddings",
    "TextEmbeddings",
    "VisionEmbeddings",
    "check_image",
    "patchify",
    "unpatchify",
]
