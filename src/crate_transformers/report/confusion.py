"""The confusion matrix of a classifier."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_matrix_figure(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Counts of (true class, predicted class); the 30 most frequent true classes where there are more."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:30])
    counts, names = counts[np.ix_(kept, kept)], [classes[i] for i in kept]
    side = max(3.2, 0.32 * len(names) + 1.6)
    figure = new_figure(side, side)
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


__all__ = ["confusion_matrix_figure"]
