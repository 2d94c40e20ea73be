"""Bars of how much slower each contender is than ours, with their intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Interval(Protocol):
    """A ratio of times and its interval of 95 %."""

    @property
    def value(self) -> float:
        """The ratio."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


class Timed(Protocol):
    """One contender in one case."""

    @property
    def case(self) -> str:
        """What was run."""

    @property
    def contender(self) -> str:
        """Who ran it."""

    @property
    def slower(self) -> Interval:
        """Its median time over ours."""


def slower_figure(rows: Sequence[Timed], title: str) -> "Figure":
    """A figure with a bar for each row; the line at 1 is this library."""
    figure = new_figure(8, 1.2 + 0.28 * len(rows), layout=None)
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


__all__ = ["Interval", "Timed", "slower_figure"]
