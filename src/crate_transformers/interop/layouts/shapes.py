"""What names and shapes of a checkpoint say, whatever its layout: rules that several layouts share."""

import math
import re
from collections.abc import Mapping
from typing import Any

from ...configuration.validation import as_pair
from ...errors import UserError
from .layout import StateDict


def depth(state: StateDict, pattern: str) -> int:
    """How many layers a stack has; `Layout.check_layers` has found that it has no gaps.

    pattern: what the names of the stack begin with; its group is the number of the layer.
    """
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})


def any_match(state: StateDict, pattern: str) -> bool:
    """Whether the pattern matches the whole of some name."""
    return any(re.fullmatch(pattern, name) for name in state)


def require(state: StateDict, axes: Mapping[str, int]) -> None:
    """Refuse a checkpoint that lacks one of these tensors (name -> number of axes), or has it with other axes.

    Raises:
        ValueError: with the name.
    """
    for name, count in axes.items():
        if name not in state:
            raise UserError(f"missing key {name!r}: the checkpoint is incomplete")
        if state[name].ndim != count:
            raise UserError(f"misshapen key {name!r}: expected {count} axes, got shape {tuple(state[name].shape)}")


def stem_names(before: str) -> dict[str, str]:
    """The names of a stem of convolutions as ToST and CBT have them, each second module of `before` a stage -> ours."""
    names: dict[str, str] = {}
    for stage in range(4):
        theirs = rf"{before}\.proj\.{2 * stage}"
        ours = f"crate.embeddings.patch_embeddings.stages.{stage}"
        names[rf"{theirs}\.0\.weight"] = f"{ours}.convolution.weight"
        names[rf"{theirs}\.1\.(weight|bias|running_mean|running_var|num_batches_tracked)"] = rf"{ours}.norm.\1"
    return names


def given_pixels(name: str, size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of a size that the user gave. name: of the field, for the message.

    Raises:
        ValueError: a side that is not positive.
    """
    height, width = as_pair(size)
    if min(height, width) < 1:
        raise UserError(f"{name} must be positive, got {size}")
    return height, width


def square_grid(state: StateDict, table: str, overrides: Mapping[str, Any]) -> tuple[int, int]:
    """(rows, columns) of patches, taken to be a square, from a position table (1, 1 + patches, d).

    Raises:
        ValueError: a table without patches, or of a number that makes no square where the user gave no image_size.
    """
    num_patches = state[table].shape[1] - 1
    if num_patches < 1:
        raise UserError(f"misshapen key {table!r}: expected a class token and patches, got {tuple(state[table].shape)}")
    side = math.isqrt(num_patches)
    if side * side != num_patches and "image_size" not in overrides:
        raise UserError(
            f"the {num_patches} patches of {table} do not make a square image: pass image_size and patch_size (--set "
            "image_size=[H,W] --set patch_size=[h,w])"
        )
    return side, side


__all__ = ["any_match", "depth", "given_pixels", "require", "square_grid", "stem_names"]
