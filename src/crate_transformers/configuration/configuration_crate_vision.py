"""Configuration of CRATE for images."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .sizes import size_fields
from .validation import as_pair, check_layer, check_patches, resolve_head_dim


@strict
class CrateVisionConfig(PreTrainedConfig):
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

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int | None = None
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    pool: Literal["cls", "mean"] = "cls"
    patch_embedding: Literal["normalized", "convolution"] = "normalized"
    layer_norm_eps: float = 1e-5
    block_layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    embedding_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    attention_output_bias: bool = True
    attention_output_projection: bool | None = None
    ista_step_size: float | int = 0.1
    ista_lambda: float | int = 0.1
    ista_steps: int = 1
    ista_residual: bool = False
    dictionary_ratio: int = 1
    tie_dictionary: bool = True

    def __post_init__(self, **kwargs: Any):
        resolve_head_dim(self)
        if self.attention_output_projection is None:
            self.attention_output_projection = not (self.num_attention_heads == 1 and self.head_dim == self.hidden_size)
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here, so that it raises a plain ValueError

    def validate_architecture(self):
        """Raise ValueError where sizes do not fit each other."""
        check_layer(self)
        check_patches(self)

    @classmethod
    def from_size(cls, size: str, **fields: Any) -> "CrateVisionConfig":
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


__all__ = ["CrateVisionConfig"]
