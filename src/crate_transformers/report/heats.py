"""Tables of numbers as colours: inline svg whose cells tell their values where scripts run.

Shapes: R rows, C columns.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .charts import LETTER, LINE, attribute, short, width_of
from .colors import VIRIDIS, along, ink_on
from .page import data_uri
from .pictures import png_bytes

_NAME = 18  # letters of a name that are shown


@dataclass(frozen=True, eq=False)
class Heat:
    """A table of numbers.

    Attributes:
        title: what they are, with their unit. values: (R, C); NaN is left blank.
        row_title, column_title: what rows and columns are. rows, columns: the name of each.
        written: whether the numbers stand in the cells, where they are not 0.
        side: width and height of a cell, in the drawing's units; 0 makes it as large as its place.
        top: the number that has the last colour; None is the largest.
        by_logarithm: whether colours go by log(1 + number), so that small numbers beside large ones are seen.

    Example:
        >>> heat = Heat("norm", np.eye(2), "head", "head", ("0", "1"), ("0", "1"))
        >>> heat_html(heat).count("<image")
        1
    """

    title: str
    values: np.ndarray
    row_title: str
    column_title: str
    rows: Sequence[str]
    columns: Sequence[str]
    written: bool = False
    side: float = 0
    top: float | None = None
    by_logarithm: bool = False


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _every(count: int, room: float, needed: float) -> int:
    """Of `count` labels side by side in some room, each the how manyeth fits."""
    return max(1, int(np.ceil(needed * count / max(room, 1e-9))))


def heat_html(heat: Heat) -> str:
    """The table as html: its title, the cells as svg, the colours' scale, a line for the value that is pointed at."""
    rows, columns = heat.values.shape
    names, heads = [_cut(name) for name in heat.rows], [_cut(name) for name in heat.columns]
    left = 26 + max(map(width_of, names))
    widest = max(map(width_of, heads))
    width = heat.side * columns or (180.0 if rows == columns else 300 - left)
    height = heat.side * rows or (180.0 if rows == columns else min(180.0, max(60.0, 16.0 * rows)))
    upright = widest > width / columns and widest > 4 * LETTER  # names that do not fit side by side stand
    below = 24 + (widest if upright else LINE)
    finite = heat.values[np.isfinite(heat.values)]
    low, high = 0.0 if (finite >= 0).all() else float(finite.min()), float(finite.max(initial=0))
    high = high if heat.top is None else heat.top
    shares = (np.nan_to_num(heat.values, nan=low) - low) / max(high - low, 1e-12)
    if heat.by_logarithm:
        shares = np.log1p(shares * (high - low)) / max(np.log1p(high - low), 1e-12)
    colors = along(VIRIDIS, shares)
    seen = np.concatenate([colors, np.where(np.isfinite(heat.values), 255, 0)[..., None]], axis=-1).astype(np.uint8)
    box = (left, 4.0, width, height)
    parts = [
        f'<image x="{left:.1f}" y="4" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="{data_uri(png_bytes(seen), "image/png")}"/>',
        *_row_names(heat, names, box),
        *_column_names(heat, heads, box, upright),
        *(_numbers(heat.values, colors, box) if heat.written else ()),
    ]
    size = (left + width + 12, height + below + 4)
    data = {
        "box": box, "values": heat.values.tolist(), "rowTitle": heat.row_title, "columnTitle": heat.column_title,
        "rows": list(heat.rows), "columns": list(heat.columns), "title": heat.title,
    }  # fmt: skip
    said = html.escape(f"{heat.title}: {heat.row_title} by {heat.column_title}, {rows} by {columns} numbers")
    wide = f' style="min-width:{size[0]:.0f}px;max-width:{1.5 * size[0]:.0f}px"' if heat.side else ""
    return (
        f'<div class="panel{" large" if heat.side else ""}"><p class="of">{html.escape(heat.title)}</p>'
        f'<div class="wide"><svg class="heat" viewBox="0 0 {size[0]:.0f} {size[1]:.0f}" role="img" '
        f'aria-label="{said}" data-heat="{attribute(data)}"{wide}>{"".join(parts)}</svg></div>'
        f'<p class="scale"><span>{short(low)}</span><i class="ramp amount"></i><span>{high:.3g}</span></p>'
        '<output class="readout"></output></div>'
    )


def _row_names(heat: Heat, names: Sequence[str], box: tuple[float, ...]) -> list[str]:
    left, top, _, height = box
    step = _every(len(names), height, LINE + 2)
    parts = [
        f'<text class="tick end" x="{left - 5:.1f}" y="{top + height * (i + 0.5) / len(names) + 4:.1f}">'
        f"{html.escape(names[i])}</text>"
        for i in range(0, len(names), step)
    ]
    x, y = 11, top + height / 2
    title = html.escape(heat.row_title)
    return [*parts, f'<text class="tick middle" transform="translate({x} {y:.1f}) rotate(-90)">{title}</text>']


def _column_names(heat: Heat, names: Sequence[str], box: tuple[float, ...], upright: bool) -> list[str]:
    left, top, width, height = box
    widest = max(map(width_of, names))
    step = _every(len(names), width, LINE + 2 if upright else LETTER + widest)
    parts, base = [], top + height
    for i in range(0, len(names), step):
        x, name = left + width * (i + 0.5) / len(names), html.escape(names[i])
        if upright:
            turned = f'transform="translate({x + 4:.1f} {base + 5:.1f}) rotate(-90)"'
            parts.append(f'<text class="tick end" {turned}>{name}</text>')
        else:
            parts.append(f'<text class="tick middle" x="{x:.1f}" y="{base + 14:.1f}">{name}</text>')
    lower = base + 18 + (widest if upright else LINE)
    title = html.escape(heat.column_title)
    return [*parts, f'<text class="tick middle" x="{left + width / 2:.1f}" y="{lower:.1f}">{title}</text>']


def _numbers(values: np.ndarray, colors: np.ndarray, box: tuple[float, ...]) -> list[str]:
    left, top, width, height = box
    rows, columns = values.shape
    parts = []
    for row, column in zip(*np.nonzero(values), strict=True):
        text = short(float(values[row, column]))
        x, y = left + width * (column + 0.5) / columns, top + height * (row + 0.5) / rows + 3.5
        size = min(10.0, 1.5 * (width / columns - 2) / len(text))
        color = ink_on(colors[row, column])
        parts.append(
            f'<text class="middle" x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" fill="{color}">{text}</text>'
        )
    return parts


__all__ = ["Heat", "heat_html"]
