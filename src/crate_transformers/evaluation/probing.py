"""Probe a frozen model on labelled images, and write tables and a figure: `crate probe`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from transformers import PreTrainedModel

from ..data import EvaluationTransform, ImageSplits, KeyedImages, LabelledImages, load_image_source
from ..errors import UserError
from ..recipes.tasks.images import ImageData
from ..report.colors import BLUE, GREEN, ORANGE
from ..report.plates import Plate
from ..report.writing import write_csv, write_json
from .evaluate import data_options
from .probes import (
    EMBEDDING,
    ClassSpread,
    LabelledFeatures,
    class_spreads,
    default_pool,
    layer_features,
    probe_features,
    summary,
)
from .progress import Progress, unchanged
from .run_folder import recipe_beside

_BATCH = 64


@dataclass(frozen=True)
class ProbeRequest:
    """What to probe a model on, and how.

    Attributes:
        folder: where the model is from; a recipe.yaml there gives the data, split as in the training, so that the test
            images are new to the model.
        source, settings: override the recipe's data, as in `evaluate_model`.
        every_layer, pool: as in `layer_features`; None is the pool of `default_pool`.
        shots: labelled images of each class; None uses all of them. seeds: number of draws of labelled images.
        limit: number of images of each part, at most, evenly spread.

    Raises:
        UserError: `seeds` or `limit` is below 1.
    """

    folder: str | Path | None = None
    source: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    every_layer: bool = False
    pool: str | None = None
    shots: int | None = None
    seeds: int = 5
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1 or (self.limit is not None and self.limit < 1):
            raise UserError(f"--seeds and --limit must be at least 1, got {self.seeds} and {self.limit}")


@dataclass(frozen=True)
class ProbeResult:
    """What the probes found.

    Attributes:
        rows: a row for each layer and probe, as `summary` makes them.
        spreads: coding rates of the held-out features of the classes, one entry a layer.
        labelled, held_out: numbers of images. data: the name of the source.
    """

    rows: list[dict[str, Any]]
    spreads: list[ClassSpread]
    labelled: int
    held_out: int
    data: str


def probe_model(
    model: PreTrainedModel,
    processor: Any,  # an image processor of transformers, of whatever class
    output: Path,
    request: ProbeRequest | None = None,
    *,
    progress: Progress = unchanged,
) -> ProbeResult:
    """Probe a frozen model: fit to labelled images of the training part, score on the test part.

    Args:
        output: the folder to write: probes.csv, rates.csv, class_rates.csv, probes.json, figures "depth" and "rates".
        progress: passes items on, and may show how many of them are done.

    Raises:
        ValueError: there are no data, a part is empty, the model reads no images, or the request does not fit.
    """
    request = request or ProbeRequest()
    splits = _open_data(request)
    pool = request.pool or default_pool(model)
    parts = []
    for name in ("train", "test"):
        images = getattr(splits, name)
        if not len(images):
            raise UserError(f"{splits.name} has no {name} images")
        count = min(len(images), request.limit or len(images))
        chosen = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
        batches = progress(_batches(images, chosen, model, processor), -(-len(chosen) // _BATCH), f"{name} features")
        features = layer_features(model, batches, pool, request.every_layer)
        parts.append(LabelledFeatures(features, images.labels[chosen]))
    depth = int(model.config.num_hidden_layers)
    layers = [EMBEDDING, *range(depth)] if request.every_layer else [depth - 1]
    scores = probe_features(
        *parts,
        layers=layers,
        shots=request.shots,
        seeds=range(request.seeds),
        pool=pool,
        progress=lambda tries: progress(tries, len(tries), "probing"),
    )
    rows, spreads = summary(scores), class_spreads(parts[1], layers)
    result = ProbeResult(rows, spreads, rows[0]["labelled"], rows[0]["held_out"], splits.name)
    write_csv(output / "probes.csv", [score.to_dict() for score in scores])
    write_csv(output / "rates.csv", [spread.to_dict() for spread in spreads])
    write_csv(output / "class_rates.csv", [row for spread in spreads for row in spread.class_rows(splits.classes)])
    about = {"data": splits.name, "model": str(request.folder), "pool": pool}
    rates = [{**spread.to_dict(), "by_class": spread.by_class} for spread in spreads]
    write_json(output / "probes.json", {**about, "summary": rows, "rates": rates})
    for plate in _plates(result, type(model).__name__, pool, request):
        plate.write(output)
    return result


def _plates(result: ProbeResult, model_name: str, pool: str, request: ProbeRequest) -> list[Plate]:
    """The figures "depth" and "rates", with their captions."""
    drawn = f" ({request.shots} a class, {request.seeds} draws)" if request.shots else ""
    features = f"{model_name} ({'mean of the patch tokens' if pool == 'mean' else 'class token'}), {result.data}"
    count = "Layers count from 0; the embedding comes before them."
    probes = (
        f"k-nearest-neighbour and linear probes on frozen features of {features}: "
        f"{result.labelled} labelled training images{drawn}, accuracy on {result.held_out} test images; bars: "
        f"95 % interval over draws. {count}"
    )
    last = result.spreads[-1]
    rates = (
        f"Coding rates of frozen features of {features}: {last.samples} test images of {len(last.by_class)} classes, "
        f"features of {last.width} numbers scaled to unit length, eps^2 = 0.5. R of all; R_c, the mean over images of "
        f"the rate of their class; Delta R = R - R_c (arXiv 2006.08558). {count}"
    )
    return [Plate("depth", depth_figure(result.rows), probes), Plate("rates", rates_figure(result.spreads), rates)]


def _open_data(request: ProbeRequest) -> ImageSplits:
    """The pictures of the run that made a model, or of a source, split in the same way."""
    recipe = recipe_beside(request.folder) if request.folder is not None else None
    data = data_options(ImageData, recipe, request.source, request.settings)
    return load_image_source(
        data.source,
        data.root,
        data.validation_fraction,
        data.test_fraction,
        recipe.seed if recipe is not None else 0,
        data.skip_unreadable,
        data.manifest_dir,
    )


def _batches(
    images: LabelledImages, chosen: np.ndarray, model: PreTrainedModel, processor: Any
) -> Iterator[dict[str, Tensor]]:
    plain = KeyedImages(images, EvaluationTransform(processor), model.config.num_channels)
    for start in range(0, len(chosen), _BATCH):
        items = [plain[int(i)]["pixel_values"] for i in chosen[start : start + _BATCH]]
        yield {"pixel_values": torch.stack(items)}


def depth_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the accuracy of both probes over depth, with 95 % intervals.

    Args:
        rows: as `summary` makes them.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for probe, name, color, marker in (("knn", "k-nn", BLUE, "o"), ("linear", "linear", ORANGE, "s")):
        own = [row for row in rows if row["probe"] == probe]
        axis.errorbar(
            [-1 if row["layer"] == EMBEDDING else row["layer"] for row in own],
            [row["accuracy"] for row in own],
            yerr=[row["interval_95"] for row in own],
            label=name,
            color=color,
            marker=marker,
            capsize=3,
        )
    _over_depth(axis, "held-out accuracy")
    return figure


def rates_figure(spreads: Sequence[ClassSpread]) -> Figure:
    """Draw R, R_c and Delta R over depth, and the rates of single classes: their range, their quartiles, their median.

    Args:
        spreads: as `class_spreads` makes them.
    """
    figure = Figure(figsize=(8.8, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = [-1.0 if spread.layer == EMBEDDING else float(spread.layer) for spread in spreads]
    for name, label, color, marker in (
        ("rate", "R, all classes", BLUE, "o"),
        ("class_rate", "R_c, by class", ORANGE, "s"),
        ("rate_reduction", "Delta R", GREEN, "^"),
    ):
        left.plot(places, [getattr(spread, name) for spread in spreads], label=label, color=color, marker=marker)
    quantiles = np.asarray([np.quantile(list(spread.by_class.values()), (0, 0.25, 0.5, 0.75, 1)) for spread in spreads])
    low, lower, median, upper, high = quantiles.T
    right.errorbar(
        places, median, yerr=(median - low, high - median), color=ORANGE, marker="s", capsize=3, label="range"
    )
    right.errorbar(
        places, median, yerr=(median - lower, upper - median), color=ORANGE, linestyle="none", elinewidth=5, alpha=0.4,
        label="quartiles",
    )  # fmt: skip
    _over_depth(left, "nats")
    _over_depth(right, "R of the features of one class (nats)")
    return figure


def _over_depth(axis: Axes, what: str) -> None:
    """The axes of a figure over depth, where -1 is the embedding."""
    axis.set_xlabel("layer (from 0)")
    axis.set_ylabel(what)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.xaxis.set_major_formatter(lambda place, _: EMBEDDING if place == -1 else f"{place:.0f}")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


__all__ = ["ProbeRequest", "ProbeResult", "depth_figure", "probe_model", "rates_figure"]
