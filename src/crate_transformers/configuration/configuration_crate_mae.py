"""Configuration of the CRATE masked autoencoder."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .sizes import size_fields
from .validation import as_pair, check_layer, check_patches, check_positive, resolve_head_dim


@strict
class CrateMAEConfig(PreTrainedConfig):
    r"""Configuration of [`CrateMAEModel`] and [`CrateMAEForPreTraining`]; the defaults are CRATE-MAE-base/16.

    The decoder has the width of the encoder: mask tokens travel through both (arXiv 2404.02446).

    Args:
        decoder_num_hidden_layers: decoder layers; `None` is as many as the encoder has.
        decoder_num_attention_heads: decoder subspaces; `None` is as many as the encoder has.
        mask_ratio: fraction of patches removed, in [0, 1); int(N (1 - mask_ratio)) patches are kept. At 0 the loss is
            taken on all patches.
        norm_pix_loss: compare with pixels normalised per patch.
        ista_lambda: lambda of the encoder's ISTA step; 0.5 in the released weights, which do not store it.
        layer_norm_eps: epsilon of the final norms of encoder and decoder.
        initializer_range: standard deviation of the class and mask tokens.

    The other fields are those of [`CrateVisionConfig`].

    Example:
        >>> CrateMAEConfig.from_size("tiny", image_size=32, patch_size=4).num_patches
        64
    """

    model_type = "crate_mae"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int | None = None
    decoder_num_hidden_layers: int | None = None
    decoder_num_attention_heads: int | None = None
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    mask_ratio: float | int = 0.75
    norm_pix_loss: bool = False
    layer_norm_eps: float = 1e-6
    block_layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    attention_output_bias: bool = True
    attention_output_projection: bool | None = None
    ista_step_size: float | int = 0.1
    ista_lambda: float | int = 0.5
    ista_steps: int = 1
    ista_residual: bool = False
    dictionary_ratio: int = 1
    tie_dictionary: bool = True

    def __post_init__(self, **kwargs: Any):
        resolve_head_dim(self)
        if self.attention_output_projection is None:
            self.attention_output_projection = not (self.num_attention_heads == 1 and self.head_dim == self.hidden_size)
        if self.decoder_num_hidden_layers is None:
            self.decoder_num_hidden_layers = self.num_hidden_layers
        if self.decoder_num_attention_heads is None:
            self.decoder_num_attention_heads = self.num_attention_heads
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here, so that it raises a plain ValueError

    def validate_architecture(self):
        """Raise ValueError where sizes do not fit each other."""
        check_layer(self)
        check_patches(self)
        check_positive(self, "decoder_num_hidden_layers", "decoder_num_attention_heads")
        if self.hidden_size % self.decoder_num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) is not a multiple of decoder_num_attention_heads "
                f"({self.decoder_num_attention_heads})"
            )
        if self.hidden_size % 4:
            raise ValueError(
                f"hidden_size must be a multiple of 4 for the 2-d sine-cosine positions, got {self.hidden_size}"
            )
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must be in [0, 1), got {self.mask_ratio}")
        if int(self.num_patches * (1 - self.mask_ratio)) < 1:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} leaves none of the {self.num_patches} patches: lower it or use "
                "smaller patches"
            )

    @classmethod
    def from_size(cls, size: str, **fields: Any) -> "CrateMAEConfig":
        """Configuration of a published size ("tiny", "small", "base", "large"), with any field overridden.

        Raises:
            ValueError: an unknown size.
        """
        return cls(**{**size_fields(size), **fields})

    @property
    def patch_grid(self) -> tuple[int, int]:
        """(rows, columns) of patches in an image."""
        (height, width), (patch_height, patch_width) = as_pair(self.image_size), as_pair(self.patch_size)
        return height // patch_height, width // patch_width

    @property
    def num_patches(self) -> int:
        rows, columns = self.patch_grid
        return rows * columns


__all__ = ["CrateMAEConfig"]
