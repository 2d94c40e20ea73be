"""Whether a batch of images fits a model, and the grid of its patches."""

from torch import Tensor
from transformers import PreTrainedConfig

from ..configuration.validation import as_pair
from ..errors import UserError
from ..ops.conditions import is_exporting


def patch_grid_of(pixel_values: Tensor, config: PreTrainedConfig, interpolate_pos_encoding: bool) -> tuple[int, int]:
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
    if is_exporting() and interpolate_pos_encoding:
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


def resampling_grid(
    grid: tuple[int, int], config: PreTrainedConfig, interpolate_pos_encoding: bool
) -> tuple[int, int] | None:
    """The patch grid to which positions are to be resampled; None where they fit as they are.

    An exported program resamples to whatever grid it is given, its own too (which changes nothing).
    """
    if interpolate_pos_encoding and (is_exporting() or grid != config.patch_grid):
        return grid
    return None


__all__ = ["patch_grid_of", "resampling_grid"]
