"""Probes: what a frozen model's features know, by nearest neighbours and by a linear classifier.

Features are computed once; the probes (scikit-learn's) are cheap. Both see features scaled to zero mean and unit
variance on the labelled pictures, so that models whose features differ in scale are comparable.

Shapes: n pictures, d width of a feature, L layers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..analysis import trace_batches
from ..errors import UserError

POOLS = ("cls", "mean")
EMBEDDING = "embedding"  # the name of what comes before layer 0


@dataclass(frozen=True)
class ProbeScore:
    """accuracy in [0, 1] on `held_out` pictures, of a probe ("knn" or "linear") on one layer.

    layer: counted from 0, as everywhere; "embedding" is what layer 0 reads.

    seed picks the labelled pictures where `shots` a class are drawn; without shots all are used, and seed is 0.
    """

    layer: int | str
    pool: str
    probe: str
    shots: int | None
    seed: int
    labelled: int
    held_out: int
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def default_pool(model: nn.Module) -> str:
    """ "mean" for autoencoders, whose class token no loss reads; else what the model's own classifier reads."""
    config: Any = model.config
    return "mean" if config.model_type in ("crate_mae", "vit_mae") else getattr(config, "pool", "cls")


def layer_features(model: Any, batches: Any, pool: str, every_layer: bool = False) -> np.ndarray:
    """Features of pictures, by layer.

    Args:
        model: CRATE of any image family, ViT, ViT-MAE, with or without a head; an autoencoder sees whole pictures.
        batches: dictionaries with pixel_values (B, C, H, W); read once.
        pool: "cls", the class token, or "mean", the mean of the patch tokens.
        every_layer: all of the embedding and the layers, (L + 1, n, d); else the last layer alone, (1, n, d). The
            last layer is read after the model's final norm, where it has one.

    Raises:
        ValueError: an unknown pool, a model that reads no images.
    """
    if pool not in POOLS:
        raise UserError(f"pool must be cls or mean, got {pool!r}")
    if model.main_input_name != "pixel_values":
        raise UserError(f"a probe needs an image model: {type(model).__name__} reads {model.main_input_name}")
    backbone = model.base_model
    norm = getattr(backbone, "norm", None) or getattr(backbone, "layernorm", None) or nn.Identity()
    parts: list[Tensor] = []
    for trace in trace_batches(model, batches, ("tokens",), batch_size=256):
        first = [trace.layers[0].tokens_in] if every_layer else []
        states = [*first, *(layer.tokens_out for layer in (trace.layers if every_layer else trace.layers[-1:]))]
        with torch.no_grad():
            states[-1] = norm(states[-1])
        pooled = [state[:, 0] if pool == "cls" else state[:, 1:].mean(dim=1) for state in states]
        parts.append(torch.stack(pooled).float().cpu())
    return torch.cat(parts, dim=1).numpy()


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Places of `shots` pictures of every class, drawn with the seed.

    Raises:
        ValueError: fewer than one, or a class that has not so many.
    """
    if shots < 1:
        raise UserError(f"--shots must be at least 1, got {shots}")
    generator = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise UserError(f"class {label} has {len(members)} training images, fewer than --shots {shots}")
        chosen.extend(generator.permutation(members)[:shots])
    return np.sort(np.asarray(chosen))


def knn_accuracy(
    train: np.ndarray, train_labels: np.ndarray, held_out: np.ndarray, labels: np.ndarray, neighbors: int = 5
) -> float:
    """Accuracy of the nearest neighbours by cosine, weighted by closeness; features (n, d)."""
    from sklearn.neighbors import KNeighborsClassifier  # heavy

    count = min(neighbors, len(train))
    probe = KNeighborsClassifier(count, metric="cosine", weights="distance").fit(train, train_labels)
    return float((probe.predict(held_out) == labels).mean())


def linear_accuracy(
    train: np.ndarray, train_labels: np.ndarray, held_out: np.ndarray, labels: np.ndarray, inverse_penalty: float = 1.0
) -> float:
    """Accuracy of logistic regression with an L2 penalty; features (n, d)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning  # heavy
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1000 steps are enough for an accuracy
        probe = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(train, train_labels)
    return float((probe.predict(held_out) == labels).mean())


_PROBES = {"knn": knn_accuracy, "linear": linear_accuracy}


def probe_features(
    train: np.ndarray,
    train_labels: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    *,
    shots: int | None = None,
    seeds: Sequence[int] = (0,),
    layers: Sequence[int | str],
    pool: str = "",
    progress: Any = iter,
) -> list[ProbeScore]:
    """Both probes on every layer's features.

    Args:
        train, held_out: (L, n, d) of `layer_features`, with labels (n,). shots: labelled pictures a class, drawn anew
            with each seed; None uses all, once. layers: the number of each layer given, or "embedding".
        progress: wraps the (layer, seed) pairs as they are gone through.
    """
    scores = []
    tries = [(layer, seed) for layer in range(len(train)) for seed in (seeds if shots is not None else (0,))]
    for layer, seed in progress(tries):
        chosen = np.arange(len(train_labels)) if shots is None else draw_shots(train_labels, shots, seed)
        known = train[layer, chosen].astype(np.float64)
        mean, deviation = known.mean(axis=0), known.std(axis=0)
        scale = np.where(deviation > 1e-8, deviation, 1.0)
        known, unknown = (known - mean) / scale, (held_out[layer] - mean) / scale
        for name, probe in _PROBES.items():
            accuracy = probe(known, train_labels[chosen], unknown, labels)
            scores.append(ProbeScore(layers[layer], pool, name, shots, seed, len(chosen), len(labels), accuracy))
    return scores


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half the width of the 95 % interval of the mean by Student's t; 0 for one value)."""
    from scipy import stats  # heavy

    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        return float(numbers.mean()), 0.0
    factor = stats.t.ppf(0.975, len(numbers) - 1)
    return float(numbers.mean()), float(factor * numbers.std(ddof=1) / np.sqrt(len(numbers)))


def summary(scores: Sequence[ProbeScore]) -> list[dict[str, Any]]:
    """One row a layer and probe: mean accuracy over seeds and half the width of its 95 % interval."""
    rows = []
    for layer, probe in dict.fromkeys((score.layer, score.probe) for score in scores):
        own = [score for score in scores if (score.layer, score.probe) == (layer, probe)]
        mean, half = interval([score.accuracy for score in own])
        rows.append(
            {
                "layer": layer,
                "probe": probe,
                "pool": own[0].pool,
                "labelled": own[0].labelled,
                "held_out": own[0].held_out,
                "seeds": len(own),
                "accuracy": mean,
                "interval_95": half,
            }
        )
    return rows


__all__ = [
    "EMBEDDING",
    "POOLS",
    "ProbeScore",
    "default_pool",
    "draw_shots",
    "interval",
    "knn_accuracy",
    "layer_features",
    "linear_accuracy",
    "probe_features",
    "summary",
]
