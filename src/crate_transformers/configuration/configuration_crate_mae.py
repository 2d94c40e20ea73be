"""Configuration of the CRATE masked autoencoder."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import UserError
from .backbone_fields import BackboneFields
from .image_config import CrateImageConfig
from .validation import check_not_negative, check_positive


@strict
class CrateMAEConfig(BackboneFields, CrateImageConfig):
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

    decoder_num_hidden_layers: int | None = None
    decoder_num_attention_heads: int | None = None
    mask_ratio: float | int = 0.75
    norm_pix_loss: bool = False
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    ista_lambda: float | int = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        if self.decoder_num_hidden_layers is None:
            self.decoder_num_hidden_layers = self.num_hidden_layers
        if self.decoder_num_attention_heads is None:
            self.decoder_num_attention_heads = self.num_attention_heads
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        super().validate_architecture()
        check_positive(self, "decoder_num_hidden_layers", "decoder_num_attention_heads")
        check_not_negative(self, "initializer_range")
        assert self.decoder_num_attention_heads is not None  # filled in after construction
        if self.hidden_size % self.decoder_num_attention_heads:
            raise UserError(
                f"hidden_size ({self.hidden_size}) is not a multiple of decoder_num_attention_heads "
                f"({self.decoder_num_attention_heads})"
            )
        if self.hidden_size % 4:
            raise UserError(
                f"hidden_size must be a multiple of 4 for the 2-d sine-cosine positions, got {self.hidden_size}"
            )
        if not 0 <= self.mask_ratio < 1:
            raise UserError(f"mask_ratio must be in [0, 1), got {self.mask_ratio}")
        if int(self.num_patches * (1 - self.mask_ratio)) < 1:
            raise UserError(
                f"mask_ratio {self.mask_ratio} leaves none of the {self.num_patches} patches: lower it or use "
                "smaller patches"
            )

    @property
    def _all_layers(self) -> int:
        return self.num_hidden_layers + (self.decoder_num_hidden_layers or 0)


__all__ = ["CrateMAEConfig"]
