"""Probe a frozen model on labelled images, and write tables and a figure: `crate probe`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from transformers import PreTrainedModel

from ..data import EvaluationTransform, ImageSplits, KeyedImages, LabelledImages, load_image_source
from ..errors import UserError
from ..recipes.tasks.images import ImageData
from ..report.colors import BLUE, ORANGE
from ..report.plates import Plate
from ..report.writing import write_csv, write_json
from .evaluate import data_options
from .probes import EMBEDDING, LabelledFeatures, default_pool, layer_features, probe_features, summary
from .run_folder import recipe_beside

_BATCH = 64

Item = TypeVar("Item")


class Progress(Protocol):
    """Passes items on, and may show how many of them are done."""

    def __call__(self, items: Iterable[Item], count: int, what: str) -> Iterator[Item]:
        """`count` items, of which `what` is done."""
        ...


def _unchanged(items: Iterable[Item], count: int, what: str) -> Iterator[Item]:
    return iter(items)


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
        labelled, held_out: numbers of images. data: the name of the source.
    """

    rows: list[dict[str, Any]]
    labelled: int
    held_out: int
    data: str


def probe_model(
    model: PreTrainedModel,
    processor: Any,  # an image processor of transformers, of whatever class
    output: Path,
    request: ProbeRequest | None = None,
    *,
    progress: Progress = _unchanged,
) -> ProbeResult:
    """Probe a frozen model: fit to labelled images of the training part, score on the test part.

    Args:
        output: the folder to write: probes.csv, probes.json and the figure "depth".
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
    scores = probe_features(
        *parts,
        layers=[EMBEDDING, *range(depth)] if request.every_layer else [depth - 1],
        shots=request.shots,
        seeds=range(request.seeds),
        pool=pool,
        progress=lambda tries: progress(tries, len(tries), "probing"),
    )
    rows = summary(scores)
    write_csv(output / "probes.csv", [score.to_dict() for score in scores])
    write_json(
        output / "probes.json", {"data": splits.name, "model": str(request.folder), "pool": pool, "summary": rows}
    )
    drawn = f" ({request.shots} a class, {request.seeds} draws)" if request.shots else ""
    caption = (
        f"k-nearest-neighbour and linear probes on frozen features of {type(model).__name__} "
        f"({'mean of the patch tokens' if pool == 'mean' else 'class token'}), {splits.name}: "
        f"{rows[0]['labelled']} labelled training images{drawn}, accuracy on {rows[0]['held_out']} test images; bars: "
        "95 % interval over draws. Layers count from 0; the embedding comes before them."
    )
    Plate("depth", depth_figure(rows), caption).write(output)
    return ProbeResult(rows, rows[0]["labelled"], rows[0]["held_out"], splits.name)


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
    axis.set_xlabel("layer (from 0)")
    axis.set_ylabel("held-out accuracy")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.xaxis.set_major_formatter(lambda place, _: EMBEDDING if place == -1 else f"{place:.0f}")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


__all__ = ["ProbeRequest", "ProbeResult", "depth_figure", "probe_model"]
