"""Accuracies, calibration, proper scores and intervals have the closed forms that their equations promise."""

import numpy as np
import pytest
import torch

from crate_transformers.evaluation.class_metrics import (
    Outcomes,
    bootstrap_intervals,
    calibration_bins,
    class_metrics,
    outcomes_of,
)
from crate_transformers.evaluation.corruptions import ALEXNET_ERRORS, corruption_metrics

CLASSES = [f"c{i}" for i in range(7)]


def logits_of(probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


def test_metrics_by_hand():
    """Three classes; the second picture is wrong, its label third."""
    outcomes = outcomes_of(logits_of([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]), torch.tensor([0, 2]))
    metrics = class_metrics(outcomes, CLASSES[:3])
    assert metrics["accuracy"] == 0.5
    assert metrics["loss"] == pytest.approx(-(np.log(0.7) + np.log(0.2)) / 2)
    assert metrics["brier"] == pytest.approx(((0.3**2 + 0.2**2 + 0.1**2) + (0.5**2 + 0.3**2 + 0.8**2)) / 2)
    assert metrics["expected_calibration_error"] == pytest.approx((abs(1 - 0.7) + abs(0 - 0.5)) / 2)
    assert outcomes.ranks.tolist() == [0, 2]
    assert metrics["per_class"] == [
        {"class": "c0", "images": 1, "accuracy": 1.0},
        {"class": "c1", "images": 0, "accuracy": None},
        {"class": "c2", "images": 1, "accuracy": 0.0},
    ]
    assert metrics["mean_class_accuracy"] == 0.5  # over the classes that have images
    assert metrics["top5_accuracy"] is None
    assert "top-5 accuracy is left out: with 3 classes it is always 1" in metrics["notes"]


def test_mean_over_classes_is_not_that_over_images():
    scores = torch.eye(7)[[0, 0, 0, 1]] * 9
    metrics = class_metrics(outcomes_of(scores, torch.tensor([0, 0, 0, 2])), CLASSES)
    assert (metrics["accuracy"], metrics["mean_class_accuracy"]) == (0.75, 0.5)


def test_top_five_is_the_place_of_the_label():
    scores = torch.arange(7.0).flip(0).repeat(7, 1)  # class 0 is the likeliest, class 6 the last
    metrics = class_metrics(outcomes_of(scores, torch.arange(7)), CLASSES)
    assert (metrics["accuracy"], metrics["top5_accuracy"]) == (pytest.approx(1 / 7), pytest.approx(5 / 7))


def test_of_equal_scores_choice_and_rank_agree():
    outcomes = outcomes_of(torch.zeros(3, 7), torch.tensor([0, 3, 6]))
    assert outcomes.chosen[:, 0].tolist() == [0, 0, 0]
    assert outcomes.right.tolist() == [True, False, False]
    assert outcomes.ranks.tolist() == [0, 3, 6]


def test_several_right_labels():
    scores = torch.tensor([[5.0, 4, 3, 2, 1, 0, -1]] * 3)
    outcomes = outcomes_of(scores, torch.tensor([0, 2, 6]), [(0,), (2, 1), (6,)])
    assert outcomes.ranks.tolist() == [0, 1, 6]
    metrics = class_metrics(outcomes, CLASSES, has_label_sets=True)
    assert (metrics["accuracy"], metrics["top5_accuracy"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert [metrics[name] for name in ("loss", "brier", "per_class", "mean_class_accuracy")] == [None] * 4
    assert any("may have several right labels" in note for note in metrics["notes"])


def test_batches_are_joined():
    scores, labels = torch.randn(11, 7), torch.arange(11) % 7
    whole = outcomes_of(scores, labels)
    parts = Outcomes.joined([outcomes_of(scores[:4], labels[:4]), outcomes_of(scores[4:], labels[4:])])
    assert class_metrics(parts, CLASSES) == class_metrics(whole, CLASSES)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="scores that are not finite"):
        outcomes_of(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]))


def test_bins_of_calibration():
    confidence, right = np.asarray([0.05, 0.1, 0.15, 1.0, 0.99]), np.asarray([0, 1, 1, 1, 0], dtype=bool)
    bins = calibration_bins(confidence, right, bins=10)
    assert [row["images"] for row in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]  # (0, 0.1] holds 0.1
    assert bins[0]["confidence"] == pytest.approx(0.075)
    assert (bins[0]["accuracy"], bins[2]["accuracy"]) == (0.5, None)


def test_a_calibrated_model_has_no_error():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.3, 1, 200_000)
    right = generator.uniform(size=200_000) < confidence
    bins = calibration_bins(confidence, right)
    assert max(abs(row["accuracy"] - row["confidence"]) for row in bins if row["images"]) < 0.02


def test_intervals_are_those_of_the_mean():
    """For a mean of many entries the percentiles are the normal ones: 1.96 standard errors."""
    values = np.random.default_rng(1).normal(3.0, 2.0, 2500)
    low, high = bootstrap_intervals({"x": values}, resamples=4000)["x"]
    error = values.std() / 50
    assert (low, high) == (
        pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error),
        pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error),
    )
    assert bootstrap_intervals({"x": values}) == bootstrap_intervals({"x": values})
    assert bootstrap_intervals({"x": values}) != bootstrap_intervals({"x": values}, seed=1)
    assert bootstrap_intervals({"x": np.ones(5)})["x"] == [1.0, 1.0]


def corrupted(accuracy_of):
    return {(name, str(s)): accuracy_of(name, s) for name in ALEXNET_ERRORS for s in range(1, 6)}


def test_mean_corruption_error():
    alexnet = corruption_metrics(corrupted(lambda name, s: 1 - ALEXNET_ERRORS[name]))
    assert alexnet["mean_corruption_error"] == pytest.approx(1.0)
    half = corruption_metrics(corrupted(lambda name, s: 1 - ALEXNET_ERRORS[name] / 2 * (1 + (s - 3) / 10)))
    assert half["mean_corruption_error"] == pytest.approx(0.5)
    assert half["accuracy"] == pytest.approx(1 - np.mean(list(ALEXNET_ERRORS.values())) / 2)


def test_alexnet_errors_are_the_means_of_those_by_severity():
    """Of five corruptions the published errors by severity."""
    by_severity = {
        "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
        "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
        "impulse_noise": (0.78374, 0.89808, 0.9487, 0.9872, 0.99548),
        "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
        "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
    }
    assert {name: np.mean(errors) for name, errors in by_severity.items()} == pytest.approx(
        {name: ALEXNET_ERRORS[name] for name in by_severity}, abs=1e-6
    )
    assert len(ALEXNET_ERRORS) == 15


def test_corruptions_that_are_missing_or_more():
    accuracies = corrupted(lambda name, s: 0.5)
    some = corruption_metrics({key: value for key, value in accuracies.items() if key != ("fog", "2")})
    assert some["mean_corruption_error"] is None
    assert some["corruptions"]["fog"]["corruption_error"] is None
    assert some["corruptions"]["snow"]["corruption_error"] == pytest.approx(0.5 / ALEXNET_ERRORS["snow"])
    assert any("needs all fifteen" in note for note in some["notes"])
    more = corruption_metrics(accuracies | {("spatter", str(s)): 1.0 for s in range(1, 6)})
    assert more["accuracy"] == pytest.approx(0.5)
    assert any(note.startswith("spatter are not of the fifteen") for note in more["notes"])
    assert more["mean_corruption_error"] == pytest.approx(np.mean([0.5 / e for e in ALEXNET_ERRORS.values()]))
