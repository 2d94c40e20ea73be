"""Label maps of masks as files whose colours are those of the overlays, and the legend of these colours.

Shapes: H x W pixels.
"""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .canvas import new_figure
from .colors import palette_color

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def label_png_bytes(labels: np.ndarray) -> bytes:
    """A label map (H, W) uint8 as a png with a palette: the values are the labels, 0 is shown black.

    Example:
        >>> image = Image.open(io.BytesIO(label_png_bytes(np.array([[0, 1], [2, 1]], dtype=np.uint8))))
        >>> image.mode, np.asarray(image).tolist(), image.convert("RGB").getpixel((1, 0))
        ('P', [[0, 1], [2, 1]], (0, 114, 178))
    """
    image = Image.frombytes("P", labels.shape[::-1], np.ascontiguousarray(labels).tobytes())
    image.putpalette([channel for value in range(256) for channel in label_color(value)])
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


def label_color(value: int) -> tuple[int, int, int]:
    """Red, green and blue of a label: 0 is black, then the colours of the palette, again from the first."""
    return (0, 0, 0) if value == 0 else palette_color(value - 1)


def label_name(value: int) -> str:
    """What a label stands for."""
    return "background" if value == 0 else f"object {value}"


def legend_figure(num_objects: int) -> "Figure":
    """Each label with its colour and its name, the background among them."""
    figure = new_figure(3.4, 0.5 + 0.3 * (num_objects + 1))
    axes = figure.subplots()
    for value in range(num_objects + 1):
        color = tuple(channel / 255 for channel in label_color(value))
        axes.barh(value, 1, color=color, edgecolor="0.5", height=0.8)
        axes.text(1.3, value, f"{value}: {label_name(value)}", va="center", fontsize=10)
    axes.set_xlim(0, 6)
    axes.invert_yaxis()
    axes.set_axis_off()
    return figure


__all__ = ["label_color", "label_name", "label_png_bytes", "legend_figure"]
