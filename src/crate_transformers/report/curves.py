"""Curves of a run over its optimizer steps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .canvas import axes_grid, new_figure
from .colors import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves_figure(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> "Figure":
    """Loss, and one more metric where it was logged, over optimizer steps."""
    shown = [("loss", "training loss", BLUE), ("eval_loss", "validation loss", ORANGE)]
    panels: list[tuple[str, list[tuple[str, str, str]]]] = [("loss", shown)]
    if metric and metric != "eval_loss" and any(metric in entry for entry in history):
        name = metric.removeprefix("eval_").replace("_", " ")
        panels.append((name, [(metric, f"validation {name}", GREEN)]))
    figure = new_figure(5.2 * len(panels), 3.4)
    for axis, (label, lines) in zip(axes_grid(figure, 1, len(panels))[0], panels, strict=True):
        for key, name, color in lines:
            points = [(entry["step"], entry[key]) for entry in history if key in entry and "step" in entry]
            if points:
                marker = "o" if len(points) < 4 else ""  # a single point would draw no line
                axis.plot(*zip(*points, strict=True), label=name, color=color, linewidth=1.6, marker=marker)
        axis.set_xlabel("optimizer step")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return figure


__all__ = ["curves_figure"]
