"""What a classifier's scores amount to: accuracies, calibration, proper scores, bootstrap intervals.

Shapes: n pictures, C classes, K the first choices that are kept.

Calibration [G]: pictures are sorted into bins of equal width by confidence, the probability of the first choice;

    ECE = sum_b (n_b / n) |accuracy_b - confidence_b|

Proper scores: negative log likelihood, mean of -log p_label in nats; Brier [B], mean of sum_c (p_c - 1[c = label])^2,
in [0, 2]. Intervals are percentiles of resamples of the pictures, drawn with replacement [E]: they say how much the
number depends on which pictures were tried, not on the seed of the training.

[G] arXiv 1706.04599. [B] Brier 1950. [E] Efron 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

FIRST_CHOICES = 5
BINS = 15
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a classifier made of n pictures.

    Attributes:
        labels: (n,) the right class; the first of those that are right.
        chosen: (n, K) the likeliest classes, best first. scores: (n, K) their probabilities.
        ranks: (n,) the place of the best right class among all, from 0.
        nats: (n,) -log p of the label. squared: (n,) sum over classes of (p - truth)^2. Both are NaN where several
            labels are right.
    """

    labels: np.ndarray
    chosen: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    nats: np.ndarray
    squared: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> np.ndarray:
        """(n,) whether the first choice is right."""
        return self.ranks == 0

    @classmethod
    def joined(cls, parts: Sequence["Outcomes"]) -> "Outcomes":
        """The pictures of several batches as one."""
        names = ("labels", "chosen", "scores", "ranks", "nats", "squared")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def outcomes_of(logits: Tensor, labels: Tensor, accepted: Sequence[Sequence[int]] | None = None) -> Outcomes:
    """Outcomes of a batch.

    Args:
        logits: (n, C). labels: (n,). accepted: the right classes of each picture, where there may be several.

    Raises:
        UserError: a score is not finite.
    """
    logs = logits.detach().cpu().double().log_softmax(dim=-1)
    if not logs.isfinite().all():
        raise UserError("the model gives scores that are not finite: its weights are damaged, or too large for them")
    labels = labels.cpu()
    probabilities = logs.exp()
    order = logs.argsort(dim=-1, descending=True, stable=True)  # of equal scores the first class is chosen
    chosen = order[:, :FIRST_CHOICES]
    scores = probabilities.gather(1, chosen)
    truth = torch.zeros_like(logs, dtype=torch.bool)
    if accepted is None:
        truth[torch.arange(len(labels)), labels] = True
        nats = -logs[truth]
        squared = (probabilities - truth.double()).square().sum(dim=-1)
    else:
        for row, right in zip(truth, accepted, strict=True):
            row[list(right)] = True
        nats = squared = torch.full((len(labels),), float("nan"), dtype=torch.float64)
    ranks = truth.gather(1, order).int().argmax(dim=-1)
    arrays = (labels, chosen, scores, ranks, nats, squared)
    return Outcomes(*(array.numpy() for array in arrays))


def class_metrics(outcomes: Outcomes, classes: Sequence[str], has_label_sets: bool = False) -> dict[str, Any]:
    """Metrics of a classifier, as docs/evaluation.md describes them.

    Args:
        classes: the name of each class. has_label_sets: whether several labels may be right, so that what needs one
            label (loss, Brier, accuracy by class) is left out.

    Returns:
        images, accuracy, loss (nats), top5_accuracy, mean_class_accuracy, brier, expected_calibration_error,
        calibration (the bins), intervals, bootstrap, per_class; None for what is left out, with the reason in `notes`.
    """
    notes = []
    columns = {"accuracy": outcomes.right.astype(float)}
    if len(classes) > FIRST_CHOICES:
        columns["top5_accuracy"] = (outcomes.ranks < FIRST_CHOICES).astype(float)
    else:
        notes.append(f"top-5 accuracy is left out: with {len(classes)} classes it is always 1")
    if has_label_sets:
        notes.append("loss, Brier score and accuracy by class are left out: a picture may have several right labels")
    else:
        columns |= {"loss": outcomes.nats, "brier": outcomes.squared}
    bins = calibration_bins(outcomes.scores[:, 0], outcomes.right)
    gaps = [b["images"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["images"]]
    per_class = None if has_label_sets else accuracy_by_class(outcomes, classes)
    known = [row["accuracy"] for row in per_class or () if row["images"]]
    means = {name: float(column.mean()) for name, column in columns.items()}
    return {
        "images": len(outcomes),
        "accuracy": means["accuracy"],
        "loss": means.get("loss"),
        "top5_accuracy": means.get("top5_accuracy"),
        "mean_class_accuracy": float(np.mean(known)) if known else None,
        "brier": means.get("brier"),
        "expected_calibration_error": sum(gaps) / len(outcomes),
        "intervals": bootstrap_intervals(columns),
        "bootstrap": {"over": "images", "method": "percentile", "level": 0.95, "resamples": RESAMPLES, "seed": 0},
        "calibration": bins,
        "per_class": per_class,
        "notes": notes,
    }


def calibration_bins(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """Bins of equal width (from, to]: images, mean confidence, accuracy; the last two are None in an empty bin.

    Args:
        confidence: (n,) in [0, 1]. right: (n,) whether the choice was right.
    """
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for place in range(bins):
        own = places == place
        count = int(own.sum())
        rows.append(
            {
                "from": place / bins,
                "to": (place + 1) / bins,
                "images": count,
                "confidence": float(confidence[own].mean()) if count else None,
                "accuracy": float(right[own].mean()) if count else None,
            }
        )
    return rows


def accuracy_by_class(outcomes: Outcomes, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class: class, images, accuracy; the accuracy is None for a class without images."""
    sizes = np.bincount(outcomes.labels, minlength=len(classes))
    right = np.bincount(outcomes.labels, weights=outcomes.right, minlength=len(classes))
    return [
        {"class": name, "images": int(size), "accuracy": float(hits / size) if size else None}
        for name, size, hits in zip(classes, sizes, right, strict=True)
    ]


def bootstrap_intervals(
    columns: dict[str, np.ndarray], resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> dict[str, list[float]]:
    """[low, high] of the mean of each column: percentiles over resamples of its n entries, which are the same for all.

    Args:
        columns: (n,) each, n >= 1. level: share of the resamples within the interval.
    """
    table = np.stack(list(columns.values()))  # (columns, n)
    generator = np.random.default_rng(seed)
    count = table.shape[1]
    means = np.stack([table[:, generator.integers(0, count, count)].mean(axis=1) for _ in range(resamples)])
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return {name: [float(low[i]), float(high[i])] for i, name in enumerate(columns)}


__all__ = [
    "BINS",
    "FIRST_CHOICES",
    "RESAMPLES",
    "Outcomes",
    "accuracy_by_class",
    "bootstrap_intervals",
    "calibration_bins",
    "class_metrics",
    "outcomes_of",
]
