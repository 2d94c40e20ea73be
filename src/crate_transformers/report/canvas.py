"""The one door to matplotlib, which is heavy: it is loaded when the first figure is drawn.

A figure is bound to no window, and nothing global is touched.
"""

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> "Figure":
    """An empty figure of a size in inches."""
    from matplotlib.figure import Figure  # heavy

    return Figure(figsize=(width, height), layout=layout)


def axes_grid(figure: "Figure", rows: int, columns: int) -> np.ndarray:
    """The axes of a new figure, (rows, columns), also where there is one."""
    return np.asarray(figure.subplots(rows, columns, squeeze=False))


def whole_numbers(axis: Any) -> None:
    """Ticks of one axis (`axes.xaxis` or `axes.yaxis`) at whole numbers alone, as layers and heads have."""
    axis.get_major_locator().set_params(integer=True)


def color_map(values: np.ndarray, name: str) -> np.ndarray:
    """Values in [0, 1] (...) as colours (..., 3) in [0, 1] of a map of matplotlib, such as "viridis"."""
    from matplotlib import colormaps  # heavy

    return colormaps[name](values)[..., :3]


def draw_as_written(figure: "Figure") -> None:
    """Let a figure draw its texts as they are: a $ in the name of a class or a file opens no mathematics."""
    from matplotlib.text import Text  # heavy

    for text in cast(list[Text], figure.findobj(Text)):
        text.set_parse_math(False)


__all__ = ["axes_grid", "color_map", "draw_as_written", "new_figure", "whole_numbers"]
