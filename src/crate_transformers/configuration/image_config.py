"""What the two configurations of images share: the layer, the patches, and the checks of both."""

from typing import Any, TypeVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .sizes import size_fields
from .validation import as_pair, check_labels, check_layer, check_patches, check_size, resolve_head_dim

Config = TypeVar("Config", bound="CrateImageConfig")


@strict
class CrateImageConfig(PreTrainedConfig):
    r"""Fields of [`CrateVisionConfig`], which explains them, and of [`CrateMAEConfig`]."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int | None = None
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    block_layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    attention_output_bias: bool = True
    attention_output_projection: bool | None = None
    compression: str | list[str] | tuple[str, ...] = "mssa"
    sparsification: str | list[str] | tuple[str, ...] = "ista"
    ista_step_size: float | int = 0.1
    ista_steps: int = 1
    ista_residual: bool = False
    dictionary_ratio: int = 1
    tie_dictionary: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        check_labels(self, kwargs.get("num_labels"))
        resolve_head_dim(self)
        if self.attention_output_projection is None:
            self.attention_output_projection = not (self.num_attention_heads == 1 and self.head_dim == self.hidden_size)
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here, so that it raises a plain ValueError

    def validate_architecture(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        check_layer(self)
        check_patches(self)
        height, width = as_pair(self.patch_size)
        check_size(
            self, self._all_layers, patches=self.num_patches, values_of_a_patch=self.num_channels * height * width
        )

    @property
    def _all_layers(self) -> int:
        return self.num_hidden_layers

    @classmethod
    def from_size(cls: type[Config], size: str, **fields: Any) -> Config:
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


__all__ = ["CrateImageConfig"]
