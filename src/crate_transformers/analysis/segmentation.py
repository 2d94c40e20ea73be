"""Masks out of attention, and masks brought to the size of an image.

Shapes: (..., rows, columns) the patch grid, H x W pixels.
"""

from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError

Reading = Literal["entries", "mass"]


def attention_masks(maps: Tensor, fraction: float = 0.6, reading: Reading = "mass") -> Tensor:
    """The patches that a map points at, by either reading of "the top 60 %".

    Args:
        maps: (..., rows, columns), >= 0.
        fraction: in (0, 1].
        reading: "entries" keeps that share of the patches (rounded, at least one), those of highest attention; "mass"
            keeps the fewest patches that hold that share of the attention.

    Returns:
        (..., rows, columns) bool. Equal values are taken in the order of the patches.

    Raises:
        ValueError: a fraction outside (0, 1], an unknown reading.

    Example:
        >>> maps = torch.tensor([[0.7, 0.2, 0.1]])
        >>> attention_masks(maps, 0.6, "mass").tolist(), attention_masks(maps, 0.6, "entries").tolist()
        ([[True, False, False]], [[True, True, False]])

    Source: "mass" is the public code's of arXiv 2104.14294 (DINO), which the figures of arXiv 2308.16271 build on;
    "entries" is what the latter's text says.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction must be in (0, 1], got {fraction}")
    flat = maps.flatten(-2).double()
    values, order = flat.sort(dim=-1, descending=True, stable=True)
    if reading == "entries":
        count = max(1, round(fraction * flat.shape[-1]))
        kept = torch.arange(flat.shape[-1], device=maps.device).expand_as(values) < count
    elif reading == "mass":
        before = values.cumsum(dim=-1) - values
        kept = before < fraction * values.sum(dim=-1, keepdim=True) * (1 - 1e-6)
        kept[..., 0] = True
    else:
        raise UserError(f"reading must be 'entries' or 'mass', got {reading!r}")
    return torch.zeros_like(kept).scatter(-1, order, kept).unflatten(-1, maps.shape[-2:])


def resize_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (M, rows, columns) bool to (M, H, W), each pixel as the patch that it lies in.

    Example:
        >>> resize_masks(torch.tensor([[[True, False]]]), (1, 4)).int().tolist()
        [[[1, 1, 0, 0]]]
    """
    if masks.shape[0] == 0:
        return masks.new_zeros((0, *size))
    return torch.nn.functional.interpolate(masks[None].float(), size=size, mode="nearest-exact")[0] > 0.5


__all__ = ["Reading", "attention_masks", "resize_masks"]
