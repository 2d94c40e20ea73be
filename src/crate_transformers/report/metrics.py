"""Metrics of an evaluation as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import table_text

_MOST_CLASSES = 20


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """Numbers with their intervals, the bins of calibration, accuracy by class or by corruption; notes last.

    Args:
        metrics: as `evaluate_model` gives them.
    """
    parts = [_numbers(metrics)]
    if metrics.get("calibration"):
        filled = [row for row in metrics["calibration"] if row["images"]]
        parts.append("calibration: confidence beside accuracy\n" + table_text(filled))
    if metrics.get("per_class"):
        parts.append(_classes(metrics["per_class"]))
    if metrics.get("corruptions"):
        parts.append(_corruptions(metrics["corruptions"]))
    notes = "\n".join(f"note: {note}" for note in metrics.get("notes", ()))
    return "\n\n".join([*parts, notes] if notes else parts)


def _numbers(metrics: Mapping[str, Any]) -> str:
    """A line a number, with its interval where it has one."""
    intervals = metrics.get("intervals", {})
    rows = []
    for name, value in metrics.items():
        if isinstance(value, int | float | str):
            low, high = intervals.get(name, (None, None))
            between = "" if low is None else f"{low:.4f} to {high:.4f}"
            rows.append({"metric": name.replace("_", " "), "value": _shown(value), "95 % interval": between})
    if "bootstrap" not in metrics:
        return table_text([{key: row[key] for key in ("metric", "value")} for row in rows])
    bootstrap = metrics["bootstrap"]
    said = (
        f"intervals: {bootstrap['resamples']} bootstrap resamples of the {bootstrap['over']}, not over training seeds"
    )
    return f"{table_text(rows)}\n{said}"


def _shown(value: float | str) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _classes(rows: Sequence[Mapping[str, Any]]) -> str:
    if len(rows) <= _MOST_CLASSES:
        return "accuracy by class\n" + table_text(rows)
    known = sorted((row for row in rows if row["images"]), key=lambda row: float(row["accuracy"]))
    worst = known[:_MOST_CLASSES]
    return f"accuracy by class, the {len(worst)} lowest of {len(rows)}; --output FILE has all\n{table_text(worst)}"


def _corruptions(rows: Mapping[str, Mapping[str, Any]]) -> str:
    severities = sorted({severity for row in rows.values() for severity in row["by_severity"]})
    table = [
        {
            "corruption": name,
            "accuracy": row["accuracy"],
            "corruption_error": row["corruption_error"],
            **{f"severity {severity}": row["by_severity"].get(severity) for severity in severities},
        }
        for name, row in rows.items()
    ]
    return "accuracy by corruption\n" + table_text(table)


__all__ = ["metrics_text"]
