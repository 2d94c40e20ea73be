"""Configuration of ToST for images."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import UserError
from .backbone_fields import BackboneFields
from .image_config import CrateImageConfig
from .sizes import TOST_VISION_SIZES
from .validation import as_pair, check_not_negative, check_positive, check_stem


@strict
class TostVisionConfig(BackboneFields, CrateImageConfig):
    r"""Configuration of [`TostVisionModel`] and [`TostForImageClassification`]; the defaults are ToST-small/16.

    Args:
        image_size: pixels, one number or (height, width), of the image processor; the model takes any size.
        patch_size: 8 or 16 pixels. num_channels: colour channels of an image.
        position_embedding: whether Fourier features of a patch's place are added to it.
        num_class_attention_layers: blocks at the end in which the class token alone asks.
        normalize_all_tokens: whether the second norm of those blocks is of all tokens, as in every published model, or
            of the class token alone.
        layer_norm_eps: epsilon of the last LayerNorm, of those of a class-attention block, and of a layer.
        layer_scale: start of the learned factors; 1.0 for 12 layers, 1e-5 for 24.
        initializer_range: deviation of the truncated normal of linear layers and the class token.

    As a backbone ([`TostVisionBackbone`]) the model gives the stages `out_features` ("stem", "stage1", ..., a stage a
    layer), or `out_indices` (their numbers); the last one where neither is set.

    The other fields are those of a layer ([`CrateLayerConfig`]); compression "tssa", sparsification "mlp".

    Example:
        >>> TostVisionConfig.from_size("tiny-24", image_size=(50, 70)).patch_grid
        (4, 5)
    """

    model_type = "tost_vision"

    hidden_size: int = 384
    num_attention_heads: int = 8
    compression: str | list[str] | tuple[str, ...] = "tssa"
    sparsification: str | list[str] | tuple[str, ...] = "mlp"
    position_embedding: bool = True
    num_class_attention_layers: int = 2
    normalize_all_tokens: bool = True
    layer_norm_eps: float = 1e-6
    block_layer_norm_eps: float = 1e-6
    layer_scale: float | int | None = 1.0
    initializer_range: float = 0.02

    def _check_patches(self) -> None:
        check_positive(self, "num_channels")
        check_stem(self)
        if min(as_pair(self.image_size)) < 1:
            raise UserError(f"image_size must be positive, got {self.image_size}")

    def validate_architecture(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        super().validate_architecture()
        check_not_negative(self, "initializer_range", "num_class_attention_layers")
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size ({self.hidden_size}) is not a multiple of num_attention_heads "
                f"({self.num_attention_heads}), which the class-attention blocks need"
            )
        names = (self.compression,) if isinstance(self.compression, str) else self.compression
        if "cbsa" in names:
            raise UserError("compression 'cbsa' pools a class token and patches, and ToST's layers have patches alone")

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of patches: each convolution of the stem halves a side and rounds up."""
        patch_height, patch_width = as_pair(self.patch_size)
        return math.ceil(height / patch_height), math.ceil(width / patch_width)

    @classmethod
    def from_size(cls, size: str, **fields: Any) -> "TostVisionConfig":
        """Configuration of a published size ("tiny", "small", "tiny-24", ... "large-24"), with any field overridden.

        Raises:
            ValueError: an unknown size.
        """
        name = size.replace("_", "-")
        if name not in TOST_VISION_SIZES:
            raise UserError(f"unknown size {size!r}: expected one of {', '.join(TOST_VISION_SIZES)}")
        return cls(**{**TOST_VISION_SIZES[name], **fields})


__all__ = ["TostVisionConfig"]
