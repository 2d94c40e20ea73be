"""The mean corruption error of ImageNet-C.

    CE_c = sum_s E_{s,c} / sum_s E^AlexNet_{s,c},     mCE = mean of CE_c over the fifteen corruptions

E is the top-1 error at severity s = 1 ... 5. The table has AlexNet's mean errors over the five severities, as published
with the benchmark.

Source: arXiv 1903.12261.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

ALEXNET_ERRORS = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def corruption_metrics(accuracies: Mapping[tuple[str, ...], float]) -> dict[str, Any]:
    """Means over severities and corruptions.

    Args:
        accuracies: top-1 accuracy by (corruption, severity).

    Returns:
        accuracy, the mean over corruptions of the mean over severities; corruptions: by name `accuracy`, `by_severity`
        and `corruption_error`; mean_corruption_error, None unless all fifteen are there with five severities each, with
        the reason in `notes`. Corruptions beside the fifteen count in neither mean, which `notes` says.
    """
    by_name: dict[str, dict[str, float]] = {}
    for (name, severity), accuracy in accuracies.items():
        by_name.setdefault(name, {})[severity] = accuracy
    rows: dict[str, dict[str, Any]] = {}
    for name, by_severity in by_name.items():
        accuracy = float(np.mean(list(by_severity.values())))
        known = ALEXNET_ERRORS.get(name) if len(by_severity) == 5 else None
        error = None if known is None else (1 - accuracy) / known
        rows[name] = {"accuracy": accuracy, "by_severity": by_severity, "corruption_error": error}
    notes = []
    extra = sorted(set(rows) - set(ALEXNET_ERRORS))
    counted = [name for name in rows if name in ALEXNET_ERRORS] or list(rows)
    if extra and counted != list(rows):
        notes.append(f"{', '.join(extra)} are not of the fifteen corruptions: they are listed, and in no mean")
    errors = [rows[name]["corruption_error"] for name in ALEXNET_ERRORS if name in rows]
    whole = len(errors) == len(ALEXNET_ERRORS) and None not in errors
    if not whole:
        notes.append("the mean corruption error is left out: it needs all fifteen corruptions at all five severities")
    return {
        "accuracy": float(np.mean([rows[name]["accuracy"] for name in counted])),
        "mean_corruption_error": float(np.mean(errors)) if whole else None,
        "corruptions": rows,
        "notes": notes,
    }


__all__ = ["ALEXNET_ERRORS", "corruption_metrics"]
