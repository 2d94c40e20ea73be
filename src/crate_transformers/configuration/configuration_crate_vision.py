"""Configuration of CRATE for images."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ..errors import UserError
from .image_config import CrateImageConfig
from .validation import as_pair


@strict
class CrateVisionConfig(CrateImageConfig):
    r"""Configuration of [`CrateVisionModel`] and [`CrateForImageClassification`]; the defaults are CRATE-base/16.

    Args:
        hidden_size: width d of a token.
        num_hidden_layers: layers L.
        num_attention_heads: subspaces K.
        head_dim: width p of a subspace; `None` is hidden_size / num_attention_heads.
        image_size: pixels, one number or (height, width).
        patch_size: pixels, one number or (height, width); must divide image_size.
        num_channels: colour channels of an image.
        pool: what the classifier reads, the class token ("cls") or the mean over all tokens ("mean", class token
            included).
        patch_embedding: how patches become tokens: LayerNorm, Linear, LayerNorm ("normalized", the classifier's), or
            one convolution ("convolution", the autoencoder's).
        layer_norm_eps: epsilon of the LayerNorms of the embedding and the head.
        block_layer_norm_eps: epsilon of the two LayerNorms of a layer.
        hidden_dropout_prob: dropout after the output projection of MSSA.
        embedding_dropout_prob: dropout on the embedded tokens.
        attention_probs_dropout_prob: dropout on the attention.
        attention_output_bias: bias of the output projection of MSSA.
        attention_output_projection: whether MSSA has an output projection; `None` is the public rule (none for one
            head of full width).
        compression, sparsification: the blocks that compress and sparsify, by name (`configuration/blocks.py` lists
            them); one name, or one a layer.
        ista_step_size: eta of the ISTA step.
        ista_lambda: lambda, the weight of sparsity in the ISTA step.
        ista_steps: number of ISTA steps in a layer.
        ista_residual: add the tokens before the LayerNorm to the result of the ISTA block.
        dictionary_ratio: atoms a dimension of the dictionary. 1: a square dictionary, the step starts at the tokens and
            the code is the output. More: the steps start at zero and the code is decoded again.
        tie_dictionary: decode an over-complete code with the dictionary itself (True) or with a second one (False).

    Example:
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=4, num_labels=10)
        >>> config.hidden_size, config.num_patches
        (384, 64)
    """

    model_type = "crate_vision"

    pool: Literal["cls", "mean"] = "cls"
    patch_embedding: Literal["normalized", "convolution"] = "normalized"
    layer_norm_eps: float = 1e-5
    embedding_dropout_prob: float | int = 0.0
    ista_lambda: float | int = 0.1

    def validate_architecture(self) -> None:
        """Raise UserError where sizes do not fit each other, or a patch has nothing that its LayerNorm would leave."""
        super().validate_architecture()
        height, width = as_pair(self.patch_size)
        if self.patch_embedding == "normalized" and self.num_channels * height * width == 1:
            raise UserError(
                "a patch of one value (patch_size 1, num_channels 1) is normalised to zero whatever it shows, so every "
                'picture gives the same tokens: set patch_embedding="convolution", or a larger patch_size'
            )


__all__ = ["CrateVisionConfig"]
