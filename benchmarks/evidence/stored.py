"""The stored results, and what is read out of them: values with intervals, differences of two rows."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from scipy import stats

RESULTS = Path(__file__).parents[1] / "results" / "zoo" / "results.json"


@dataclass(frozen=True)
class Value:
    """A mean over training seeds and half the width of its 95 % interval (None for one seed)."""

    mean: float
    half: float | None
    seeds: int

    def text(self, scale: float = 1.0, form: str = ".1f") -> str:
        """As "87.1 ± 0.4"."""
        mean = format(self.mean * scale, form)
        return mean if self.half is None else f"{mean} ± {format(self.half * scale, form)}"


@dataclass(frozen=True)
class Stored:
    """The content of results.json."""

    content: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path = RESULTS) -> "Stored":
        return cls(json.loads(file.read_text()))

    @property
    def about(self) -> Mapping[str, Any]:
        return self.content["about"]

    @cached_property
    def _rows(self) -> dict[tuple[str, str, str, str], Mapping[str, Any]]:
        return {(r["group"], r["data"], r["model"], r["setting"]): r for r in self.content["rows"]}

    def row(self, group: str, data: str, model: str, setting: str = "") -> Mapping[str, Any] | None:
        found = self._rows.get((group, data, model, setting))
        return found if found is not None and found["seeds"] else None

    def rows(self, group: str, data: str | None = None) -> list[Mapping[str, Any]]:
        wanted = [row for row in self.content["rows"] if row["group"] == group and row["seeds"]]
        return [row for row in wanted if data in (None, row["data"])]


def value(row: Mapping[str, Any] | None, name: str, layer: int | None = None) -> Value | None:
    """A value of a row; None where it is not there."""
    found = None if row is None else row["values"].get(name)
    if found is not None and layer is not None:
        found = found[layer]
    if row is None or found is None or found[0] is None:
        return None
    return Value(found[0], found[1], len(row["seeds"]))


def layers(row: Mapping[str, Any], name: str) -> list[Value | None]:
    """A value of every layer."""
    return [value(row, name, layer) for layer in range(len(row["values"].get(name) or ()))]


def difference(one: Value | None, other: Value | None) -> Value | None:
    """one - other, of rows whose seeds are independent: Welch's interval."""
    if one is None or other is None:
        return None
    mean = one.mean - other.mean
    if one.half is None or other.half is None:
        return Value(mean, None, min(one.seeds, other.seeds))
    squares, freedom = 0.0, 0.0
    for own in (one, other):
        square = (own.half / stats.t.ppf(0.975, own.seeds - 1)) ** 2  # of the standard error
        squares, freedom = squares + square, freedom + square**2 / (own.seeds - 1)
    if squares == 0:
        return Value(mean, 0.0, min(one.seeds, other.seeds))
    half = stats.t.ppf(0.975, squares**2 / freedom) * math.sqrt(squares)
    return Value(mean, float(half), min(one.seeds, other.seeds))


def verdict(found: Value | None) -> str:
    """Whether a difference that should be above zero is: its interval decides."""
    if found is None:
        return "not measured"
    if found.half is None:
        return "one seed: undecided"
    if found.half == 0 and found.mean:
        return "seen, all seeds alike" if found.mean > 0 else "the opposite, all seeds alike"
    if found.mean - found.half > 0:
        return "seen"
    return "the opposite" if found.mean + found.half < 0 else "undecided"


__all__ = ["RESULTS", "Stored", "Value", "difference", "layers", "value", "verdict"]
