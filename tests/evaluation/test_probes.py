"""Probes of features: neighbours, a linear classifier, drawn labels, intervals."""

import numpy as np
import pytest

from crate_transformers.evaluation.probes import draw_shots, interval, knn_accuracy, linear_accuracy, summary


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
