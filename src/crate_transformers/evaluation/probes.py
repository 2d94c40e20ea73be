"""Probes: how well nearest neighbours and a linear classifier tell classes from a frozen model's features.

Features are computed once; the probes (scikit-learn's) are cheap. Both see features scaled to zero mean and unit
variance on the labelled pictures, so that models whose features differ in scale are comparable.

Shapes: n pictures, d width of a feature, L layers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..analysis.tracing import ModelInputs, trace_batches
from ..errors import UserError
from ..objective import class_coding_rates

POOLS = ("cls", "mean")
EMBEDDING = "embedding"  # the name of what comes before layer 0


@dataclass(frozen=True)
class ProbeScore:
    """The accuracy of one probe on the features of one layer.

    Attributes:
        layer: counted from 0; "embedding" is the input of layer 0.
        pool: as in `layer_features`. probe: "knn" or "linear".
        shots: labelled pictures of each class, drawn with the seed; None uses all of them, and seed is 0.
        labelled: number of pictures that the probe was fitted on. held_out: number of those that it was tried on.
        accuracy: in [0, 1], on the held-out pictures.
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
        """The fields by name: a row of probes.csv."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Features (L, n, d) of `layer_features`, and the labels (n,) of the pictures."""

    features: np.ndarray
    labels: np.ndarray


def default_pool(model: PreTrainedModel) -> str:
    """ "mean" for autoencoders, whose class token no loss reads, and ToST, whose class token comes after the layers;
    else what the model's own classifier reads."""
    config = model.config
    return "mean" if config.model_type in ("crate_mae", "vit_mae", "tost_vision") else getattr(config, "pool", "cls")


def layer_features(model: PreTrainedModel, batches: ModelInputs, pool: str, every_layer: bool = False) -> np.ndarray:
    """Features of pictures, by layer.

    Args:
        model: CRATE of any image family, ViT, ViT-MAE, with or without a head; an autoencoder sees whole pictures.
        batches: dictionaries with pixel_values (B, C, H, W); read once.
        pool: "cls", the class token, or "mean", the mean of the patch tokens.
        every_layer: whether to read the embedding and every layer, or the last layer alone.

    Returns:
        (L + 1, n, d) with `every_layer`, else (1, n, d). The last layer is read after the model's final norm, where
        it has one.

    Raises:
        ValueError: the pool is unknown, or the model reads no images.
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
        if trace.prefix == 0 and pool == "cls":
            raise UserError(
                "this model's class token comes after its layers: pass the mean over the patches (pool mean)"
            )
        last = [layer.tokens_out for layer in (trace.layers if every_layer else trace.layers[-1:])]
        states = cast(list[Tensor], [*first, *last])  # the trace has them, as asked above
        if trace.prefix:  # else the last norm is of what comes after the layers
            with torch.no_grad():
                states[-1] = norm(states[-1])
        pooled = [state[:, 0] if pool == "cls" else state[:, trace.prefix :].mean(dim=1) for state in states]
        parts.append(torch.stack(pooled).float().cpu())
    return torch.cat(parts, dim=1).numpy()


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """The places of `shots` pictures of every class, drawn with the seed.

    Raises:
        ValueError: `shots` is below 1, or a class has fewer pictures.
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
    """Accuracy in [0, 1] of the nearest neighbours by cosine, weighted by closeness; features (n, d), labels (n,)."""
    from sklearn.neighbors import KNeighborsClassifier  # heavy

    count = min(neighbors, len(train))
    probe = KNeighborsClassifier(count, metric="cosine", weights="distance").fit(train, train_labels)
    return float((probe.predict(held_out) == labels).mean())


def linear_accuracy(
    train: np.ndarray, train_labels: np.ndarray, held_out: np.ndarray, labels: np.ndarray, inverse_penalty: float = 1.0
) -> float:
    """Accuracy in [0, 1] of logistic regression with an L2 penalty; features (n, d), labels (n,)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning  # heavy
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1000 steps are enough for an accuracy
        probe = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(train, train_labels)
    return float((probe.predict(held_out) == labels).mean())


_PROBES = {"knn": knn_accuracy, "linear": linear_accuracy}


def probe_features(
    train: LabelledFeatures,
    held_out: LabelledFeatures,
    *,
    layers: Sequence[int | str],
    shots: int | None = None,
    seeds: Sequence[int] = (0,),
    pool: str = "",
    progress: Callable[[list[tuple[int, int]]], Iterable[tuple[int, int]]] = iter,
) -> list[ProbeScore]:
    """Fit both probes to every layer's features, and score them.

    Args:
        train, held_out: what the probes are fitted to and scored on.
        layers: the number of each layer of the features, or "embedding".
        shots: labelled pictures of each class, drawn anew with each seed; None uses all of them, once.
        pool: how the features were pooled; the scores hold it.
        progress: passes the (place of the layer, seed) pairs on, and may show how many are done.
    """
    scores = []
    count = len(train.labels)
    tries = [(layer, seed) for layer in range(len(train.features)) for seed in (seeds if shots is not None else (0,))]
    for layer, seed in progress(tries):
        chosen = np.arange(count) if shots is None else draw_shots(train.labels, shots, seed)
        known = train.features[layer, chosen].astype(np.float64)
        mean, deviation = known.mean(axis=0), known.std(axis=0)
        scale = np.where(deviation > 1e-8, deviation, 1.0)
        known, unknown = (known - mean) / scale, (held_out.features[layer] - mean) / scale
        for name, probe in _PROBES.items():
            accuracy = probe(known, train.labels[chosen], unknown, held_out.labels)
            tried = len(held_out.labels)
            scores.append(ProbeScore(layers[layer], pool, name, shots, seed, len(chosen), tried, accuracy))
    return scores


@dataclass(frozen=True)
class ClassSpread:
    """How the features of classes spread at one layer, in nats: maximal coding rate reduction (arXiv 2006.08558).

    Attributes:
        layer: counted from 0; "embedding" is the input of layer 0.
        samples: n, of all classes. width: d, of a feature.
        rate: R of all features, scaled to unit length.
        class_rate: R_c = sum_j (n_j / n) R(Z_j). rate_reduction: R - R_c.
        by_class: R(Z_j) by the class's label. sizes: n_j, likewise.
    """

    layer: int | str
    samples: int
    width: int
    rate: float
    class_rate: float
    rate_reduction: float
    by_class: dict[int, float]
    sizes: dict[int, int]

    def to_dict(self) -> dict[str, Any]:
        """The numbers of all classes together: a row of rates.csv."""
        return {name: value for name, value in asdict(self).items() if name not in ("by_class", "sizes")}

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of class_rates.csv: layer, class (its name), samples, rate; names: of all classes, by label."""
        return [
            {"layer": self.layer, "class": names[label], "samples": self.sizes[label], "rate": rate}
            for label, rate in self.by_class.items()
        ]


def class_spreads(
    part: LabelledFeatures, layers: Sequence[int | str], epsilon_squared: float = 0.5
) -> list[ClassSpread]:
    """The rate reduction of the classes at every layer.

    Args:
        part: features (L, n, d), scaled to unit length here, and labels (n,).
        layers: the number of each of the L layers, or "embedding". epsilon_squared: as in `class_coding_rates`.
    """
    sizes = dict(zip(*(found.tolist() for found in np.unique(part.labels, return_counts=True)), strict=True))
    spreads = []
    for layer, features in zip(layers, part.features, strict=True):
        rates = class_coding_rates(torch.from_numpy(features), part.labels.tolist(), epsilon_squared)
        by_class = dict(zip(rates.classes, rates.class_rates.tolist(), strict=True))
        whole, own, difference = (rate.item() for rate in (rates.rate, rates.compressed_rate, rates.reduction))
        samples, width = features.shape
        spreads.append(ClassSpread(layer, samples, width, whole, own, difference, by_class, sizes))
    return spreads


def interval(values: Sequence[float]) -> tuple[float, float]:
    """(mean, half the width of its 95 % interval by Student's t); the half width is 0 for a single value."""
    from scipy import stats  # heavy

    numbers = np.asarray(values, dtype=float)
    if len(numbers) < 2:
        return float(numbers.mean()), 0.0
    factor = stats.t.ppf(0.975, len(numbers) - 1)
    return float(numbers.mean()), float(factor * numbers.std(ddof=1) / np.sqrt(len(numbers)))


def summary(scores: Sequence[ProbeScore]) -> list[dict[str, Any]]:
    """One row for each layer and probe: the mean accuracy over seeds, and half the width of its 95 % interval."""
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
    "ClassSpread",
    "LabelledFeatures",
    "ProbeScore",
    "class_spreads",
    "default_pool",
    "draw_shots",
    "interval",
    "knn_accuracy",
    "layer_features",
    "linear_accuracy",
    "probe_features",
    "summary",
]
