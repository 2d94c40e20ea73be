"""Pictures: tensors back to pixels, maps and masks over them, sheets and grids of them.

Shapes: B images, C channels, H x W pixels, M masks, (rows, columns) a patch grid.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from .canvas import color_map, new_figure
from .colors import palette_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = 10  # of the type, points


def to_pictures(images: Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> np.ndarray:
    """Model-sized tensors (B, C, H, W) back to pictures (B, H, W, 3) uint8.

    With mean and standard deviation the normalisation is undone; without, each image is stretched to its full range.
    """
    pixels = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    if mean is not None and std is not None:
        pixels = pixels * np.asarray(std, dtype=np.float32) + np.asarray(mean, dtype=np.float32)
    else:
        low = pixels.min(axis=(1, 2, 3), keepdims=True)
        pixels = (pixels - low) / np.maximum(pixels.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12)
    if pixels.shape[-1] != 3:
        pixels = pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return np.round(pixels.clip(0, 1) * 255).astype(np.uint8)


def overlay(picture: np.ndarray, heat: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """A map over a picture: (H, W, 3) uint8 and (rows, columns), stretched to its range, -> (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat - low) / (high - low) if high > low else np.zeros_like(heat, dtype=float)
    heights = Image.fromarray(scaled.astype(np.float32)).resize((width, height), Image.Resampling.NEAREST)
    color = color_map(np.asarray(heights), "viridis") * 255
    grey = picture.mean(axis=-1, keepdims=True)
    return np.round((1 - alpha) * grey + alpha * color).astype(np.uint8)


def paint_masks(picture: np.ndarray, masks: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Masks (M, H, W) bool over a picture (H, W, 3) uint8, a colour each, with a line around it."""
    from scipy.ndimage import binary_erosion  # heavy

    painted = picture.astype(float)
    for number, mask in enumerate(masks):
        color = np.asarray(palette_color(number), dtype=float)
        painted[mask] = (1 - alpha) * painted[mask] + alpha * color
        inner = binary_erosion(mask)  # the picture's border counts as outside
        painted[mask & ~inner] = color
    return np.round(painted).astype(np.uint8)


def grown(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (h, w, 3) uint8 at the size (H, W); pixels stay sharp."""
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.NEAREST))


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3), one with transparency (H, W, 4), or a map (H, W), uint8, as a png file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return buffer.getvalue()


_CELL = 128  # pixels of a picture in a sheet, at least
_GAP = 0.06  # between pictures, of a cell


def picture_sheet(
    cells: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    cell: float = 1.5,
) -> "Figure":
    """Pictures (H, W, 3) uint8 of one size in rows and columns, with a heading each; pixels stay sharp."""
    height, width = cells[0][0].shape[:2]
    grow = max(1, -(-_CELL // max(height, width)))
    height, width = height * grow, width * grow
    gap = max(2, round(_GAP * max(height, width)))
    sheet = np.full((len(cells) * (height + gap) - gap, len(cells[0]) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, row in enumerate(cells):
        for j, picture in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            sheet[top : top + height, left : left + width] = picture.repeat(grow, axis=0).repeat(grow, axis=1)
    inches = cell * sheet.shape[1] / (width + gap), cell * sheet.shape[0] / (width + gap)
    figure = new_figure(inches[0] + (0.4 if rows else 0.1), inches[1] + 0.5)
    axis = figure.subplots()
    axis.imshow(sheet, interpolation="nearest")
    axis.set_xticks([j * (width + gap) + width / 2 for j in range(len(columns))], columns, fontsize=_SIZE - 1)
    axis.set_yticks(
        [i * (height + gap) + height / 2 for i in range(len(rows))], rows, fontsize=_SIZE - 1, rotation=90, va="center"
    )
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


__all__ = [
    "grown",
    "overlay",
    "paint_masks",
    "picture_sheet",
    "png_bytes",
    "to_pictures",
]
