"""`crate probe`: a saved model, a source of labelled images, a folder of tables and a figure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ..data import EvaluationTransform, ImageSplits, KeyedImages, LabelledImages, load_image_source
from ..errors import UserError
from ..recipes.tasks.images import ImageData
from ..report.colors import BLUE, ORANGE
from ..report.plates import Plate
from ..report.writing import write_csv, write_json
from .evaluate import data_options
from .probes import EMBEDDING, default_pool, layer_features, probe_features, summary
from .run_folder import recipe_beside

_BATCH = 64


@dataclass(frozen=True)
class ProbeResult:
    """rows: a summary line a layer and probe; labelled, held_out: pictures; data: the source's name."""

    rows: list[dict[str, Any]]
    labelled: int
    held_out: int
    data: str


def probe_model(
    model: Any,
    processor: Any,
    output: Path,
    *,
    folder: str | Path | None = None,
    source: str | None = None,
    settings: Mapping[str, Any] | None = None,
    every_layer: bool = False,
    shots: int | None = None,
    seeds: int = 5,
    pool: str | None = None,
    limit: int | None = None,
    progress: Callable[[Any, int, str], Any] = lambda items, count, what: iter(items),
) -> ProbeResult:
    """Probe a frozen model: labelled images of the training part, accuracy on the test part.

    Args:
        folder: where the model is from; a recipe.yaml there gives the data, split as in pretraining, so that the test
            images are new to the model. source, settings: override it, as in `crate evaluate`.
        every_layer, shots, pool: as in `layer_features` and `probe_features`. seeds: draws with shots. limit: of
            images of each part, evenly spread.
        progress: (items, count, what) -> items, for a progress bar.

    Raises:
        ValueError: no data, an empty part, a model that reads no images, options out of range.
    """
    if seeds < 1 or (limit is not None and limit < 1):
        raise UserError(f"--seeds and --limit must be at least 1, got {seeds} and {limit}")
    splits = _open_data(folder, source, settings or {})
    pool = pool or default_pool(model)
    features, labels = [], []
    for name in ("train", "test"):
        images = getattr(splits, name)
        if not len(images):
            raise UserError(f"{splits.name} has no {name} images")
        chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), limit or len(images))).astype(int))
        batches = progress(_batches(images, chosen, model, processor), -(-len(chosen) // _BATCH), f"{name} features")
        features.append(layer_features(model, batches, pool, every_layer))
        labels.append(images.labels[chosen])
    depth = int(model.config.num_hidden_layers)
    layers = [EMBEDDING, *range(depth)] if every_layer else [depth - 1]
    scores = probe_features(
        features[0], labels[0], features[1], labels[1], shots=shots, seeds=range(seeds), layers=layers, pool=pool,
        progress=lambda tries: progress(tries, len(tries), "probing"),
    )  # fmt: skip
    rows = summary(scores)
    write_csv(output / "probes.csv", [score.to_dict() for score in scores])
    write_json(output / "probes.json", {"data": splits.name, "model": str(folder), "pool": pool, "summary": rows})
    drawn = f" ({shots} a class, {seeds} draws)" if shots else ""
    caption = (
        f"k-nearest-neighbour and linear probes on frozen features of {type(model).__name__} "
        f"({'mean of the patch tokens' if pool == 'mean' else 'class token'}), {splits.name}: "
        f"{rows[0]['labelled']} labelled training images{drawn}, accuracy on {rows[0]['held_out']} test images; bars: "
        "95 % interval over draws. Layers count from 0; the embedding comes before them."
    )
    Plate("depth", depth_figure(rows), caption).write(output)
    return ProbeResult(rows, rows[0]["labelled"], rows[0]["held_out"], splits.name)


def _open_data(folder: str | Path | None, source: str | None, settings: Mapping[str, Any]) -> ImageSplits:
    """The pictures of the run that made a model, or of a source, split in the same way."""
    recipe = recipe_beside(folder) if folder is not None else None
    data = data_options(ImageData, recipe, source, settings)
    return load_image_source(
        data.source,
        data.root,
        data.validation_fraction,
        data.test_fraction,
        recipe.seed if recipe is not None else 0,
        data.skip_unreadable,
    )


def _batches(images: LabelledImages, chosen: np.ndarray, model: Any, processor: Any) -> Iterator[dict[str, Tensor]]:
    plain = KeyedImages(images, EvaluationTransform(processor), model.config.num_channels)
    for start in range(0, len(chosen), _BATCH):
        items = [plain[int(i)]["pixel_values"] for i in chosen[start : start + _BATCH]]
        yield {"pixel_values": torch.stack(items)}


def depth_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy of both probes over depth, with 95 % intervals."""
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


__all__ = ["ProbeResult", "depth_figure", "probe_model"]
