"""Figures of a run: curves, confusion matrix, pictures, layers. Drawn on Figure objects; nothing global is touched."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's colours, told apart by colour-blind readers
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"


def curves_figure(history: Sequence[dict[str, Any]], metric: str | None = None) -> Figure:
    """Loss, and one more metric where it was logged, over optimizer steps."""
    shown = [("loss", "training loss", BLUE), ("eval_loss", "validation loss", ORANGE)]
    panels: list[tuple[str, list[tuple[str, str, str]]]] = [("loss", shown)]
    if metric and metric != "eval_loss" and any(metric in entry for entry in history):
        name = metric.removeprefix("eval_").replace("_", " ")
        panels.append((name, [(metric, f"validation {name}", GREEN)]))
    figure = Figure(figsize=(5.2 * len(panels), 3.4), layout="constrained")
    for axis, (label, lines) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
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


def confusion_matrix_figure(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts of (true class, predicted class); the 30 most frequent true classes where there are more."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:30])
    counts, names = counts[np.ix_(kept, kept)], [classes[i] for i in kept]
    side = max(3.2, 0.32 * len(names) + 1.6)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    axis.imshow(np.log1p(counts), cmap="Blues")
    for row in range(len(names)):
        for column in range(len(names)):
            if counts[row, column]:
                dark = counts[row, column] > counts.max() / 3
                axis.text(
                    column, row, counts[row, column], ha="center", va="center", fontsize=7,
                    color="white" if dark else "black",
                )  # fmt: skip
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    return figure


def picture_grid_figure(
    pictures: Sequence[Image.Image], captions: Sequence[str], framed: Sequence[bool] = (), columns: int = 8
) -> Figure:
    """Pictures in a grid, a caption under each; those with `framed` in a red frame."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.3 * columns, 1.55 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axis in axes:
        axis.set_axis_off()
    for i, (axis, picture, caption) in enumerate(zip(axes, pictures, captions, strict=False)):
        axis.set_axis_on()
        axis.imshow(np.asarray(picture), cmap="gray", interpolation="nearest")
        axis.set_title(caption, fontsize=7)
        axis.set_xticks([])
        axis.set_yticks([])
        is_framed = bool(framed and framed[i])
        for spine in axis.spines.values():
            spine.set_visible(is_framed)
            spine.set_color(RED)
            spine.set_linewidth(2.5)
    return figure


def layer_heat_figure(history: Sequence[dict[str, Any]]) -> Figure | None:
    """Layer by step: how coding rate and sparsity came about, where `measure_every` logged them."""
    entries = [entry for entry in history if "layer_coding_rate" in entry]
    if len(entries) < 2:
        return None
    figure = Figure(figsize=(10.4, 3.6), layout="constrained")
    panels = (("layer_coding_rate", "coding rate R^c (nats)"), ("layer_nonzero_fraction", "fraction of codes > 0"))
    steps = [entry["step"] for entry in entries]
    for axis, (name, label) in zip(figure.subplots(1, 2), panels, strict=True):
        values = np.asarray([entry[name] for entry in entries], dtype=float).T  # (layers, steps)
        layers = np.arange(len(values))
        mesh = axis.pcolormesh(steps, layers, values, cmap="cividis", shading="nearest")
        axis.set_xlabel("optimizer step")
        axis.set_ylabel("layer (from 0)")
        axis.set_yticks(layers)
        figure.colorbar(mesh, ax=axis, label=label)
    return figure


__all__ = [
    "BLUE",
    "GREEN",
    "ORANGE",
    "RED",
    "confusion_matrix_figure",
    "curves_figure",
    "layer_heat_figure",
    "picture_grid_figure",
]
