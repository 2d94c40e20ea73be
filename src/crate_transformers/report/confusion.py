"""The confusion matrix of a classifier."""

from collections.abc import Sequence

import numpy as np

from .charts import LETTER, LINE, width_of
from .heats import Heat

_MOST = 30  # classes that are shown


def confusion_heat(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Heat:
    """Counts of (true class, predicted class); the 30 most frequent true classes where there are more.

    Example:
        >>> confusion_heat(np.array([0, 1, 1]), np.array([0, 1, 0]), ["cat", "dog"]).values.tolist()
        [[1, 0], [1, 1]]
    """
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    kept = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:_MOST])
    counts, names = counts[np.ix_(kept, kept)], [classes[i] for i in kept]
    side = max(2.0 * LINE, LETTER + width_of(str(counts.max(initial=0))))
    title = "number of pictures (colours by its logarithm)"
    return Heat(title, counts, "true", "predicted", names, names, written=True, side=side, by_logarithm=True)


__all__ = ["confusion_heat"]
