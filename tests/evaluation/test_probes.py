"""Probes of features: neighbours, a linear classifier, drawn labels, intervals."""

import numpy as np
import pytest

from crate_transformers.evaluation.probes import (
    LabelledFeatures,
    class_spreads,
    draw_shots,
    interval,
    knn_accuracy,
    linear_accuracy,
    summary,
)


def test_probes_on_clear_features():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = np.eye(3)[labels] * 5 + 0.1 * generator.standard_normal((60, 3))
    wrong = (labels + 1) % 3
    for accuracy in (knn_accuracy, linear_accuracy):
        assert accuracy(features[::2], labels[::2], features[1::2], labels[1::2]) == 1
        assert accuracy(features[::2], labels[::2], features[1::2], wrong[1::2]) == 0


def test_shots():
    labels = np.asarray([0] * 7 + [1] * 5)
    chosen = draw_shots(labels, 3, seed=1)
    assert sorted(labels[chosen].tolist()) == [0, 0, 0, 1, 1, 1]
    assert draw_shots(labels, 3, seed=1).tolist() == chosen.tolist()
    assert draw_shots(labels, 3, seed=2).tolist() != chosen.tolist()
    with pytest.raises(ValueError, match="class 1 has 5 training images, fewer than --shots 6"):
        draw_shots(labels, 6, seed=0)


def test_interval():
    """Student's t for four degrees of freedom: 2.776 standard errors."""
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == (3.0, pytest.approx(2.776 * np.sqrt(2.5 / 5), rel=1e-3))
    assert interval([0.4]) == (0.4, 0.0)
    assert summary([]) == []


def test_spread_of_classes():
    """Two classes of one direction each, orthogonal in layer 0 and the same in layer 1; by the closed form of R."""
    labels = np.asarray([4] * 6 + [9] * 3)
    apart = np.eye(5, dtype=np.float32)[[0] * 6 + [1] * 3] * 7
    together = np.repeat(np.eye(5, dtype=np.float32)[:1], 9, axis=0)
    first, second = class_spreads(LabelledFeatures(np.stack([apart, together]), labels), ["embedding", 0])
    one = np.log(1 + 5 / 0.5) / 2  # R of features of one direction
    assert (first.layer, first.samples, first.width, first.sizes) == ("embedding", 9, 5, {4: 6, 9: 3})
    assert first.by_class == pytest.approx({4: one, 9: one})
    assert first.rate == pytest.approx((np.log(1 + 10 * 6 / 9) + np.log(1 + 10 * 3 / 9)) / 2)
    assert first.class_rate == pytest.approx(one)
    assert first.rate_reduction == pytest.approx(first.rate - one)
    assert second.rate_reduction == pytest.approx(0, abs=1e-6)
    assert [row["class"] for row in first.class_rows([*"abcdefghij"])] == ["e", "j"]
