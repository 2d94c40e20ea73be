"""Curves of a page: inline svg drawn from plain numbers, so that it stands without scripts and tells values with them.

A drawing has one size in its own units, and every label its place in it; a page shows it larger or smaller as a whole,
so what does not collide at one width collides at none.
"""

import html
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .page import data_uri
from .tables import csv_text
from .writing import plain

WIDTH, HEIGHT = 320, 200  # of a drawing, in its own units
_TOP, _BOTTOM = 10, 40
LETTER, LINE = 7.0, 11  # width and height of a letter of an axis
_SHAPES = 4  # looks of series: page.css has a colour and a dash for each


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: what it is of. x, y: equally many numbers; NaN in y is a gap.
        spread: one standard deviation at each point, drawn as a band; or nothing.

    Example:
        >>> Series("CRATE", (0, 1), (131.2, 105.4)).spread
        ()
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over one axis.

    Attributes:
        title: what is measured, with its unit. x_title: what it is measured over; a whole number.
        series: at least one. limits: lowest and highest y, where they are known beforehand.
        line: an x at which a dashed line stands, or None.

    Example:
        >>> Chart("loss", "optimizer step", (Series("training loss", (5, 10), (2.3, 1.9)),)).line is None
        True
    """

    title: str
    x_title: str
    series: tuple[Series, ...]
    limits: tuple[float, float] | None = None
    line: float | None = None


def short(value: float) -> str:
    """A number of an axis, in few letters."""
    return f"{value:.6g}"


def width_of(text: str) -> float:
    """How wide a text is on an axis, at most: the letters of Chinese and its like are as wide as they are high."""
    return sum(_width(letter) for letter in text)


def _width(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF" or letter in "mwMW@%…":
        return LINE + 0.5
    return LETTER + 2 if letter.isupper() else LETTER


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers in [low, high], equally far apart, at most `most` (from 1): 1, 2 or 5 times a power of ten.

    Example:
        >>> ticks(0.13, 1.21, 6)
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
        >>> ticks(0, 5, 4, whole=True)
        [0.0, 2.0, 4.0]
    """
    span = max(high - low, 1e-300)
    power = math.floor(math.log10(span / most))
    for exponent in (power, power + 1, power + 2):
        for factor in (1, 2, 5):
            step = factor * 10.0**exponent
            if whole and step < 1:
                continue
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return [round(i * step, 12 - exponent) if exponent < 0 else i * step for i in range(first, last + 1)]
    return [low]


def _span(chart: Chart) -> tuple[float, float]:
    """Lowest and highest y that are shown: those of the curves and their bands, and some space."""
    if chart.limits is not None:
        return chart.limits
    ends = [
        value
        for series in chart.series
        for i, y in enumerate(series.y)
        for value in ((y - series.spread[i], y + series.spread[i]) if series.spread else (y,))
        if math.isfinite(value)
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    space = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - space, high + space


@dataclass(frozen=True)
class _Frame:
    """Where numbers lie in a drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    right: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, width, height)."""
        return self.left, _TOP, WIDTH - self.left - self.right, HEIGHT - _TOP - _BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        left, top, width, height = self.box
        return (
            left + width * (x - self.x[0]) / (self.x[1] - self.x[0]),
            top + height * (self.y[1] - y) / (self.y[1] - self.y[0]),
        )

    def points(self, x: Sequence[float], y: Sequence[float]) -> str:
        return " ".join("{:.2f},{:.2f}".format(*self.at(*point)) for point in zip(x, y, strict=True))


def _frame(chart: Chart) -> tuple[_Frame, list[float]]:
    """The frame, and the numbers beside it."""
    xs = [value for series in chart.series for value in series.x] or [0.0]
    low, high = min(xs), max(xs)
    if low == high:
        low, high = low - 0.5, high + 0.5
    y = _span(chart)
    beside = ticks(*y, 6)
    left = 10 + max(width_of(short(value)) for value in beside)
    right = max(14.0, 2 + width_of(short(high)) / 2)  # half of the last number below may stand out
    return _Frame((low, high), y, left, right), beside


def _axes(chart: Chart, frame: _Frame, beside: Sequence[float]) -> list[str]:
    left, top, width, height = frame.box
    parts = []
    for value in beside:
        y = frame.at(frame.x[0], value)[1]
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}h{width:.1f}"/>')
        parts.append(f'<text class="tick end" x="{left - 5:.1f}" y="{y + 4:.1f}">{short(value)}</text>')
    letters = max(len(short(value)) for value in frame.x)
    most = max(2, int(width / (LETTER * (letters + 2))))
    for value in ticks(*frame.x, most, whole=True):
        x = frame.at(value, frame.y[0])[0]
        parts.append(f'<path class="axis" d="M{x:.1f} {top + height:.1f}v4"/>')
        parts.append(f'<text class="tick middle" x="{x:.1f}" y="{top + height + 16:.1f}">{short(value)}</text>')
    parts.append(f'<path class="axis" d="M{left:.1f} {top + height:.1f}h{width:.1f}"/>')
    name = html.escape(chart.x_title)
    parts.append(f'<text class="tick middle" x="{left + width / 2:.1f}" y="{HEIGHT - 5}">{name}</text>')
    if chart.line is not None:
        parts.append(f'<path class="mark" d="M{frame.at(chart.line, 0)[0]:.1f} {top}v{height}"/>')
    return parts


def _runs(series: Series) -> list[list[int]]:
    """Places of the points, in runs without a gap."""
    runs: list[list[int]] = [[]]
    for i, y in enumerate(series.y):
        if math.isfinite(y):
            runs[-1].append(i)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _curve(series: Series, frame: _Frame, look: int) -> list[str]:
    parts = []
    for run in _runs(series):
        x, y = [series.x[i] for i in run], [series.y[i] for i in run]
        if series.spread:
            upper = [series.y[i] + series.spread[i] for i in run]
            lower = [series.y[i] - series.spread[i] for i in run]
            around = frame.points(x + x[::-1], upper + lower[::-1])
            parts.append(f'<polygon class="band look{look}" points="{around}"/>')
        parts.append(f'<polyline class="line look{look}" points="{frame.points(x, y)}"/>')
        if len(series.x) <= 40:
            places = (frame.at(*point) for point in zip(x, y, strict=True))
            parts += [f'<circle class="dot look{look}" cx="{cx:.2f}" cy="{cy:.2f}" r="2.6"/>' for cx, cy in places]
    return parts


def _said(chart: Chart) -> str:
    """The chart in a sentence, for who does not see it."""
    told = []
    for series in chart.series:
        values = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(y)]
        if values:
            (first, start), (last, end) = values[0], values[-1]
            told.append(f"{series.name}: {short(start)} at {short(first)}, {short(end)} at {short(last)}")
    return f"{chart.title}, by {chart.x_title}. {'; '.join(told)}"


def chart_html(chart: Chart) -> str:
    """A chart as html: its title, the curves as svg, which is what, and a line for the value that is pointed at."""
    frame, beside = _frame(chart)
    drawn = _axes(chart, frame, beside)
    for number, series in enumerate(chart.series):
        drawn += _curve(series, frame, number % _SHAPES)
    data = {"box": frame.box, "x": frame.x, "y": frame.y, "xTitle": chart.x_title} | {
        "series": [vars(series) for series in chart.series]
    }
    keys = "".join(
        f'<span class="key look{number % _SHAPES}">{html.escape(series.name)}</span>'
        for number, series in enumerate(chart.series)
    )
    return (
        f'<div class="panel"><p class="of">{html.escape(chart.title)}</p>'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(_said(chart))}" '
        f'data-chart="{attribute(data)}">{"".join(drawn)}</svg>'
        f'<p class="legend">{keys}</p><output class="readout"></output></div>'
    )


def attribute(data: Mapping[str, Any]) -> str:
    """Data as JSON within an attribute; null for what is not finite."""
    return html.escape(json.dumps(plain(data), separators=(",", ":")), quote=True)


def charts_html(charts: Sequence[Chart], rows: Sequence[Mapping[str, Any]] = (), file: str = "values.csv") -> str:
    """Charts side by side where there is room.

    Args:
        rows: the numbers that are drawn, of equal keys, to be taken along as a file of this name; or none.
    """
    return panels_html(map(chart_html, charts)) + (download_html(rows, file) if rows else "")


def panels_html(panels: Iterable[str]) -> str:
    """Panels, as `chart_html` and `heat_html` make them, side by side where there is room."""
    return f'<div class="panels">{"".join(panels)}</div>'


def download_html(rows: Sequence[Mapping[str, Any]], file: str) -> str:
    """A link that holds rows of equal keys as a csv file."""
    link = data_uri(csv_text(rows).encode(), "text/csv")
    return f'<p><a download="{html.escape(file)}" href="{link}">Download {html.escape(file)}</a></p>'


__all__ = [
    "HEIGHT",
    "LETTER",
    "LINE",
    "WIDTH",
    "Chart",
    "Series",
    "attribute",
    "chart_html",
    "charts_html",
    "download_html",
    "panels_html",
    "short",
    "ticks",
    "width_of",
]
