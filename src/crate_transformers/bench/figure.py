"""Bars of how much slower each contender is than ours, with their intervals."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure


def draw(rows: Sequence[Any], title: str) -> Figure:
    """A figure with a bar for each row (case, contender, slower); the line at 1 is this library."""
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(rows)))
    axes = figure.subplots()
    contenders = list(dict.fromkeys(row.contender for row in rows))
    for position, row in enumerate(rows):
        low, high = row.slower.value - row.slower.low, row.slower.high - row.slower.value
        axes.barh(
            position,
            row.slower.value,
            xerr=[[max(low, 0.0)], [max(high, 0.0)]],
            color=f"C{contenders.index(row.contender)}",
            capsize=2,
        )
    axes.set_yticks(range(len(rows)), [f"{row.case}: {row.contender}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("median time over ours (interval: 95 %)")
    axes.set_title(title)
    return figure


__all__ = ["draw"]
