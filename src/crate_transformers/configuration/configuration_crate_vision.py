"""Configuration of CRATE for images."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from ..errors import UserError
from .backbone_fields import BackboneFields
from .image_config import CrateImageConfig
from .validation import as_pair, check_not_negative, check_probability, check_stem


@strict
class CrateVisionConfig(BackboneFields, CrateImageConfig):
    r"""Configuration of [`CrateVisionModel`] and [`CrateForImageClassification`]; the defaults are CRATE-base/16.

    Args:
        image_size: pixels, one number or (height, width).
        patch_size: pixels, one number or (height, width); must divide image_size.
        num_channels: colour channels of an image.
        pool: what the classifier reads, the class token ("cls") or the mean over all tokens ("mean", class token
            included).
        patch_embedding: how patches become tokens: LayerNorm, Linear, LayerNorm ("normalized", the classifier's); one
            convolution ("convolution", the autoencoder's and CRATE-alpha's); or a stack of 3 x 3 convolutions of
            stride 2 with BatchNorm ("conv_stem", of CBT and ToST), for patches of 8 or 16 pixels.
        layer_norm_eps: epsilon of the LayerNorms of the embedding and the head.
        embedding_dropout_prob: dropout on the embedded tokens.
        interpolate_offset: added to a side of another patch grid before the ratio of sides by which positions are
            resampled (0.1 in CBT); 0 resamples to the grid itself.
        initialization: how a new model's weights are drawn, as the public classifier draws them ("public": positions
            and class token N(0, 1), linear layers torch's default) or as CRATE-alpha's training code ("flax": N(0,
            0.02), class token N(0, 1e-6), the patch convolution uniform by its fan-in, biases 0).

    As a backbone ([`CrateVisionBackbone`]) the model gives the stages `out_features` ("stem", "stage1", ..., a stage a
    layer), or `out_indices` (their numbers); the last one where neither is set, and maps, or with
    `reshape_hidden_states=False` tokens.

    The other fields are those of a layer ([`CrateLayerConfig`]).

    Example:
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=4, num_labels=10)
        >>> config.hidden_size, config.num_patches
        (384, 64)
    """

    model_type = "crate_vision"
    _size_prefixes: ClassVar[tuple[str, ...]] = ("", "alpha", "cbt")

    pool: Literal["cls", "mean"] = "cls"
    patch_embedding: Literal["normalized", "convolution", "conv_stem"] = "normalized"
    layer_norm_eps: float = 1e-5
    embedding_dropout_prob: float | int = 0.0
    interpolate_offset: float | int = 0.0
    initialization: Literal["public", "flax"] = "public"

    def validate_architecture(self) -> None:
        """Raise UserError where sizes do not fit each other, or a patch has nothing that its LayerNorm would leave."""
        super().validate_architecture()
        check_probability(self, "embedding_dropout_prob")
        check_not_negative(self, "interpolate_offset")
        if self.patch_embedding == "conv_stem":
            check_stem(self)
        height, width = as_pair(self.patch_size)
        if self.patch_embedding == "normalized" and self.num_channels * height * width == 1:
            raise UserError(
                "a patch of one value (patch_size 1, num_channels 1) is normalised to zero whatever it shows, so every "
                'picture gives the same tokens: set patch_embedding="convolution", or a larger patch_size'
            )


__all__ = ["CrateVisionConfig"]
