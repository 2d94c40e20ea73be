"""What the configurations of images share: the patches, and the checks of all."""

from typing import Any, ClassVar, TypeVar

from huggingface_hub.dataclasses import strict

from .layer_config import CrateLayerConfig
from .sizes import size_fields
from .validation import as_pair, check_labels, check_layer, check_patches, check_size, resolve_head_dim

Config = TypeVar("Config", bound="CrateImageConfig")


@strict
class CrateImageConfig(CrateLayerConfig):
    r"""Fields of all configurations of images, beside those of a layer.

    Args:
        image_size: pixels, one number or (height, width).
        patch_size: pixels, one number or (height, width); must divide image_size.
        num_channels: colour channels of an image.
    """

    _size_prefixes: ClassVar[tuple[str, ...]] = ("",)

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3

    def __post_init__(self, **kwargs: Any) -> None:
        check_labels(self, kwargs.get("num_labels"))
        resolve_head_dim(self)
        one_full_head = self.num_attention_heads == 1 and self.head_dim == self.hidden_size
        self.resolve_output("none" if one_full_head else "learned")
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here, so that it raises a plain ValueError

    def validate_architecture(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        check_layer(self)
        self._check_patches()
        height, width = as_pair(self.patch_size)
        check_size(
            self, self._all_layers, patches=self.num_patches, values_of_a_patch=self.num_channels * height * width
        )

    def _check_patches(self) -> None:
        check_patches(self)

    @property
    def _all_layers(self) -> int:
        return self.num_hidden_layers

    @classmethod
    def from_size(cls: type[Config], size: str, **fields: Any) -> Config:
        """Configuration of a published size ("tiny", "small", "base", "large"; of classifiers also those of CRATE-alpha
        and CBT, "alpha-base", "cbt-small"), with any field overridden.

        Raises:
            ValueError: an unknown size.
        """
        return cls(**{**size_fields(size, cls._size_prefixes), **fields})

    @property
    def patch_grid(self) -> tuple[int, int]:
        """(rows, columns) of patches in an image."""
        return self.grid_of(*as_pair(self.image_size))

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of whole patches in an image of height x width pixels."""
        patch_height, patch_width = as_pair(self.patch_size)
        return height // patch_height, width // patch_width

    @property
    def num_patches(self) -> int:
        rows, columns = self.patch_grid
        return rows * columns


__all__ = ["CrateImageConfig"]
