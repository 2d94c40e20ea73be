"""Curves of a run over its optimizer steps, as a figure and as charts of a page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .canvas import axes_grid, new_figure
from .charts import Chart, Series
from .colors import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEP = "optimizer step"
_LOSSES = {"loss": "training loss", "eval_loss": "validation loss"}
_COLORS = {"loss": BLUE, "eval_loss": ORANGE}


def _panels(history: Sequence[Mapping[str, Any]], metric: str | None) -> dict[str, dict[str, str]]:
    """{what is measured: {key of the log: name of the curve}}."""
    panels = {"loss": _LOSSES}
    if metric and metric != "eval_loss" and any(metric in entry for entry in history):
        name = metric.removeprefix("eval_").replace("_", " ")
        panels[name] = {metric: f"validation {name}"}
    return panels


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(entry["step"], float(entry[key])) for entry in history if key in entry and "step" in entry]


def curves_figure(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> "Figure":
    """Loss, and one more metric where it was logged, over optimizer steps."""
    panels = _panels(history, metric)
    figure = new_figure(5.2 * len(panels), 3.4)
    for axis, (label, lines) in zip(axes_grid(figure, 1, len(panels))[0], panels.items(), strict=True):
        for key, name in lines.items():
            points = _points(history, key)
            if points:
                marker = "o" if len(points) < 4 else ""  # a single point would draw no line
                color = _COLORS.get(key, GREEN)
                axis.plot(*zip(*points, strict=True), label=name, color=color, linewidth=1.6, marker=marker)
        axis.set_xlabel(_STEP)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return figure


def curves_charts(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> list[Chart]:
    """The same as charts; a panel without a point is left out."""
    charts = []
    for label, lines in _panels(history, metric).items():
        curves = {name: _points(history, key) for key, name in lines.items()}
        series = [
            Series(name, tuple(step for step, _ in points), tuple(value for _, value in points))
            for name, points in curves.items()
            if points
        ]
        if series:
            charts.append(Chart(label, _STEP, tuple(series)))
    return charts


def curves_rows(history: Sequence[Mapping[str, Any]], metric: str | None = None) -> list[dict[str, Any]]:
    """The numbers of the charts: one row a step, with a column a curve; empty where nothing was logged at a step."""
    keys = {key: name for lines in _panels(history, metric).values() for key, name in lines.items()}
    rows: dict[int, dict[str, Any]] = {}
    for key, name in keys.items():
        for step, value in _points(history, key):
            rows.setdefault(step, {"step": step, **dict.fromkeys(keys.values(), "")})[name] = value
    return [rows[step] for step in sorted(rows)]


__all__ = ["curves_charts", "curves_figure", "curves_rows"]
