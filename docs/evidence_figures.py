"""The figures of the page "Evidence", drawn from the stored results alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from crate_transformers.report.colors import PALETTE

STORED = Path(__file__).parents[1] / "benchmarks" / "results" / "zoo" / "results.json"
DATA = {"fashion": "Fashion-MNIST", "composed": "objects over textures"}
_FONT, _MARKS = 9, "osD^vP*X"
_SHOWN = ("CRATE", "CRATE-alpha", "CBT", "ToST", "AoT", "ViT", "MSSA + MLP", "MHSA + ISTA")
_COLORS = (*PALETTE, "#8c564b", "#7f7f7f")


class _Stored:
    """The rows of the stored results by place."""

    def __init__(self) -> None:
        content = json.loads(STORED.read_text())
        self.seconds = content["about"]["step_seconds"]["seconds"]
        self.rows = {(r["group"], r["data"], r["model"], r["setting"]): r for r in content["rows"] if r["seeds"]}

    def values(self, group: str, data: str, model: str, name: str, setting: str = "") -> np.ndarray | None:
        """[mean, half width], or such a pair for every layer; None where it was not measured."""
        row = self.rows.get((group, data, model, setting))
        found = None if row is None else row["values"].get(name)
        return None if found is None else np.asarray(found, dtype=float)


def _style(model: str) -> dict[str, Any]:
    place = _SHOWN.index(model)
    return {"color": _COLORS[place], "marker": _MARKS[place], "markersize": 4, "label": model}


def _finish(axis: Any, across: str, label: str, title: str = "") -> None:
    axis.set_xlabel(across, fontsize=_FONT)
    axis.set_ylabel(label, fontsize=_FONT)
    axis.set_title(title, fontsize=_FONT)
    axis.tick_params(labelsize=_FONT - 1)
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legend(figure: Figure, axis: Any, columns: int = 8) -> None:
    handles, names = axis.get_legend_handles_labels()
    kept = dict(zip(names, handles, strict=True))
    figure.legend(
        kept.values(), kept.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=_FONT - 1
    )


def accuracy() -> Figure:
    """Accuracy against parameters, training seconds of one CPU thread, and FLOPs: the three tables together."""
    stored, figure = _Stored(), Figure(figsize=(9.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharey="row")
    for row, (data, title) in enumerate(DATA.items()):
        for model in _SHOWN:
            points = []
            for group in ("width", "parameters", "time"):
                score = stored.values(group, data, model, "test accuracy")
                steps = stored.values(group, data, model, "train steps")
                if score is None or steps is None:
                    continue
                each = stored.seconds[data][model] * steps[0] if group != "parameters" else np.nan
                sizes = [stored.values(group, data, model, f"model {name}")[0] for name in ("parameters", "flops")]
                points.append((sizes[0], each, sizes[1], 100 * score[0], 100 * np.nan_to_num(score[1])))
            for column in range(3 if points else 0):
                own = np.asarray(points)
                kept = ~np.isnan(own[:, column])
                panels[row, column].errorbar(
                    own[kept, column], own[kept, 3], own[kept, 4], linestyle="none", capsize=2, **_style(model)
                )
        for column, across in enumerate(("parameters", "training seconds, one CPU thread", "FLOPs of a picture")):
            panels[row, column].set_xscale("log")
            panels[row, column].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panels[row, column].xaxis.set_major_formatter(EngFormatter(sep=""))
            panels[row, column].xaxis.set_minor_locator(NullLocator())
            _finish(panels[row, column], across, "accuracy, %" if column == 0 else "", title if column == 1 else "")
    _legend(figure, panels[0, 0])
    return figure


def _curve(axis: Any, found: np.ndarray, model: str, scale: float, untrained: bool = False) -> None:
    layers, look = np.arange(len(found)), _style(model)
    if untrained:
        axis.plot(layers, scale * found[:, 0], **{**look, "linestyle": ":", "marker": "", "label": f"_{model}"})
        return
    axis.plot(layers, scale * found[:, 0], **look)
    if not np.isnan(found[:, 1]).any():
        low, high = (scale * (found[:, 0] + sign * found[:, 1]) for sign in (-1, 1))
        axis.fill_between(layers, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _around_lines(axis: Any) -> None:
    """Limits that show all means; bands of two seeds reach far beyond."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.get_lines()])
    low, high = np.nanmin(values), np.nanmax(values)
    axis.set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)


def layers() -> Figure:
    """R^c, Delta R, non-zeros and Hoyer's sparseness by layer; dotted: untrained."""
    stored, figure = _Stored(), Figure(figsize=(9.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 4)
    columns = (
        ("coding_rate", "R^c, nats", 1),
        ("rate_reduction", "ΔR, nats", 1),
        ("nonzero_fraction", "non-zeros, %", 100),
        ("hoyer_sparsity", "Hoyer's sparseness", 1),
    )
    for row, (data, title) in enumerate(DATA.items()):
        for column, (name, label, scale) in enumerate(columns):
            for model in _SHOWN:
                for state in ("trained", "untrained"):
                    found = stored.values("width", data, model, f"{state} layers {name}")
                    if found is not None and found.ndim == 2 and not (model == "ToST" and column < 2):
                        _curve(panels[row, column], found, model, scale, state == "untrained")
            _around_lines(panels[row, column])
            _finish(panels[row, column], "layer", label, title if column == 1 else "")
    _legend(figure, panels[0, 2])
    return figure


def half_steps() -> Figure:
    """The share of half-steps that do what the theory says, trained and untrained."""
    stored, figure = _Stored(), Figure(figsize=(9.6, 5.0), layout="constrained")
    panels = figure.subplots(2, 4, sharey=True, sharex=True)
    names = ("compresses_official", "compresses_paper", "sparsifies_official", "sparsifies_paper")
    places = np.arange(len(_SHOWN))
    for row, (data, title) in enumerate(DATA.items()):
        for column, name in enumerate(names):
            axis = panels[row, column]
            for shift, (state, alpha) in enumerate((("untrained", 0.35), ("trained", 1.0))):
                found = [stored.values("width", data, model, f"{state} share {name}") for model in _SHOWN]
                pairs = np.asarray([[np.nan, np.nan] if own is None else own for own in found])
                axis.barh(
                    places + 0.2 - 0.4 * shift,
                    100 * pairs[:, 0],
                    0.38,
                    xerr=100 * np.nan_to_num(pairs[:, 1]),
                    color=PALETTE[0],
                    alpha=alpha,
                    label=state,
                    error_kw={"linewidth": 0.8},
                )
            axis.set_yticks(places, _SHOWN)
            axis.set_xlim(0, 105)
            _finish(axis, "% of the layers" if row else "", title if column == 0 else "", name.replace("_", ", "))
    _legend(figure, panels[0, 0], 2)
    return figure


def emergence() -> Figure:
    """IoU by layer: of the best head, and of a head chosen on other images; dotted: untrained; grey: at random."""
    stored, figure = _Stored(), Figure(figsize=(9.6, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axis, name, title in zip(
        panels, ("best_head", "other_images"), ("best head on these images", "head chosen on other images"), strict=True
    ):
        for model in _SHOWN:
            for state in ("trained", "untrained"):
                found = stored.values("width", "composed", model, f"{state} emergence mass {name}")
                if found is not None:
                    _curve(axis, found, model, 100, state == "untrained")
        random = stored.values("chance", "composed", "masks at random", f"mass {name}")
        if random is not None:
            axis.axhline(100 * random[:, 0].mean(), color="0.5", linewidth=1, linestyle="--", label="masks at random")
        _finish(axis, "layer", "mean IoU, %" if name == "best_head" else "", title)
    panels[0].set_ylim(0, 80)
    _legend(figure, panels[0], 5)
    return figure


def robustness() -> Figure:
    """Accuracy by strength of noise, blur and occlusion."""
    stored, figure = _Stored(), Figure(figsize=(9.6, 5.2), layout="constrained")
    panels = figure.subplots(2, 3, sharey="row")
    for row, (data, title) in enumerate(DATA.items()):
        for column, kind in enumerate(("noise", "blur", "occlusion")):
            for model in _SHOWN:
                own = [stored.values("width", data, model, f"trained robustness {kind} {s}") for s in range(1, 6)]
                if all(found is not None for found in own):
                    pairs = 100 * np.asarray(own)
                    panels[row, column].errorbar(
                        range(1, 6), pairs[:, 0], np.nan_to_num(pairs[:, 1]), capsize=2, linewidth=1, **_style(model)
                    )
            label = f"accuracy, %\n{title}" if column == 0 else ""
            _finish(panels[row, column], "strength", label, kind if row == 0 else "")
    _legend(figure, panels[0, 0])
    return figure


def conditions() -> Figure:
    """Where the claims hold: accuracy, non-zeros and IoU of CRATE with one thing changed at a time."""
    stored, figure = _Stored(), Figure(figsize=(9.6, 5.4), layout="constrained")
    names = ("ista_lambda", "ista_step_size", "patch_size", "num_hidden_layers", "optimizer")
    labels = ("λ", "η", "patch", "layers", "optimizer")
    panels = figure.subplots(3, len(names), sharey="row")
    measures = (
        ("accuracy, %", "test accuracy", None),
        ("non-zeros, last layer, %", "trained layers nonzero_fraction", -1),
        ("IoU, head of others, %", "trained mass head of others", None),
    )
    for column, (name, across) in enumerate(zip(names, labels, strict=True)):
        settings = [place[3] for place in stored.rows if place[0] == "map" and place[3].startswith(f"{name}=")]
        for row, (label, measure, layer) in enumerate(measures):
            own = [stored.values("map", "composed", "CRATE", measure, setting) for setting in settings]
            pairs = 100 * np.asarray([found if layer is None else found[layer] for found in own]).reshape(-1, 2)
            axis = panels[row, column]
            axis.errorbar(
                range(len(pairs)), pairs[:, 0], np.nan_to_num(pairs[:, 1]), marker="o", capsize=2, color=PALETTE[0]
            )
            axis.set_xticks(range(len(settings)), [setting.partition("=")[2] for setting in settings])
            _finish(axis, across if row == 2 else "", label if column == 0 else "")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "evidence-accuracy": accuracy,
    "evidence-layers": layers,
    "evidence-half-steps": half_steps,
    "evidence-emergence": emergence,
    "evidence-robustness": robustness,
    "evidence-conditions": conditions,
}

__all__ = ["FIGURES", "STORED"]
