"""Look at a whole model: its measures, maps and components as a table, figures and one html page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..errors import UserError
from ..objective.coding_rate import RateMode
from .architectures import unwrap
from .attention import AttentionMaps, attention_maps, cluster_heads, segmentation_layer
from .batches import ModelInputs, as_arguments
from .features import joint_pca, patch_features
from .figures import (
    attention_figure,
    components_figure,
    head_clusters_figure,
    layers_figure,
    objective_figure,
    subspaces_figure,
    to_pictures,
)
from .measures import LayerMeasures, measure_layers
from .output import Plate, csv_text, data_uri, page_html, table_html, write_arrays, write_bytes, write_csv, write_json

_MODES = {
    "official": "the input of MSSA, each projected token scaled to unit length",
    "paper": "Z_half, as it is",
}


@dataclass(frozen=True)
class Inspection:
    """What `inspect_model` found and wrote: measures, plates (figures with captions), files."""

    measures: LayerMeasures
    plates: tuple[Plate, ...]
    files: tuple[Path, ...]


@dataclass
class _Sampler:
    """Passes a stream on and keeps its first samples."""

    stream: Any
    wanted: int
    kept: list[dict[str, Tensor]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        for item in [self.stream] if isinstance(self.stream, Tensor | Mapping) else self.stream:
            have = sum(len(next(iter(batch.values()))) for batch in self.kept)
            if have < self.wanted:
                batch = as_arguments(item)
                self.kept.append({name: value[: self.wanted - have].clone() for name, value in batch.items()})
            yield item


Baseline = tuple[str, Any, ModelInputs]  # name, model, its inputs


def measure_with_baseline(
    name: str,
    model: Any,
    inputs: Any,
    mode: RateMode,
    baseline: Baseline | None = None,
    part: str = "encoder",
    batch_size: int = 16,
) -> dict[str, LayerMeasures]:
    """The measures of a model and, beside them, of a baseline, by name.

    Raises:
        ValueError: as in `measure_layers`; two models of one name.
    """
    measures = {name: measure_layers(model, inputs, mode, part=part, batch_size=batch_size)}
    if baseline is not None:
        other, other_model, other_inputs = baseline
        if other == name:
            raise UserError(f"model and baseline are both called {name!r}: rename one of the folders")
        measures[other] = measure_layers(other_model, other_inputs, mode, batch_size=batch_size)
    return measures


def measure_plates(measures: Mapping[str, LayerMeasures], on: str) -> list[Plate]:
    """The figures of layer-wise measures of one or several models."""
    first = next(iter(measures.values()))
    by = f"Mean and one standard deviation over {first.num_samples} samples of {on}; {', '.join(measures)}"
    how = f"mode {first.mode} (on {_MODES[first.mode]}), epsilon {first.epsilon:g}; crate_transformers {__version__}"
    plates = [
        Plate(
            "layers",
            layers_figure(measures),
            "Coding rate under the subspace codebooks, R^c, and fraction of non-zero entries of the code after "
            f"ISTA (of a baseline: after the MLP's activation), by layer. {by}. {how}.",
        ),
        Plate(
            "objective",
            objective_figure(measures),
            f"Coding rate R, rate reduction R - R^c, and sparse rate reduction with lambda {first.sparsity_weight:g} "
            f"nats a non-zero entry, by layer. {by}. {how}.",
        ),
    ]
    for number, (name, own) in enumerate(measures.items()):
        plates.append(
            Plate(
                "subspaces" if number == 0 else f"subspaces_{number + 1}",
                subspaces_figure(own),
                f"How incoherent the subspaces of {name} are: mean over pairs of heads of |U_k^T U_l| relative to "
                "|U_k^T U_k| and |U_l^T U_l| (0: orthogonal, 1: equal), and block norms of U^T U of three layers. Of "
                f"the weights alone; crate_transformers {__version__}.",
            )
        )
    return plates


def picture_plates(
    model: Any,
    images: Tensor,
    name: str,
    on: str,
    attention: AttentionMaps,
    layer: int | None = None,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    patch: tuple[int, int] | None = None,
    num_clusters: int = 4,
) -> list[Plate]:
    """Attention of every head, heads by cluster, and components of the subspace features, for a few images.

    Args:
        attention: the class token's maps of all layers for these images. layer: None is the second-to-last.
        normalisation: as in `inspect_model`. patch: (row, column) of a patch whose maps are drawn too.
    """
    layer = segmentation_layer(model, layer)
    rows, columns = attention.grid
    pictures = to_pictures(images, *(normalisation or (None, None)))
    heads = attention.maps.shape[1] * attention.maps.shape[2]
    clusters = cluster_heads(attention, min(num_clusters, heads))
    components = joint_pca(patch_features(model, images, layer))
    about = f"{name}, {len(images)} images of {on}, {rows} x {columns} patches; crate_transformers {__version__}."
    pointed = []
    if patch is not None:
        pointed.append(
            Plate(
                "attention_patch",
                attention_figure(pictures, attention_maps(model, images, [layer], patch), layer),
                f"Attention of the framed patch (row {patch[0]}, column {patch[1]}, from 0) over the patches, every "
                f"head of layer {layer} (from 0), each map stretched to its range. {about}",
            )
        )
    return [
        *pointed,
        Plate(
            "attention",
            attention_figure(pictures, attention, layer),
            f"Attention of the class token over the patches, every head of layer {layer} (from 0), each map stretched "
            f"to its range: yellow high, violet low. {about}",
        ),
        Plate(
            "heads",
            head_clusters_figure(pictures, attention, clusters),
            f"Heads of all layers by what they look at: clusters of heads whose class-token maps agree over these "
            f"images (average linkage on 1 - correlation), the mean map of each; layer.head above. {about}",
        ),
        Plate(
            "components",
            components_figure(pictures, components),
            f"Principal components of the subspace features of layer {layer}, fitted jointly over the images: the "
            f"first over all patches ({100 * components.explained[0]:.0f} % of the variance; > 0 is taken for "
            f"foreground), and three over the foreground as red, green, blue. {about}",
        ),
    ]


def write_inspection(
    folder: Path,
    title: str,
    facts: Mapping[str, Any],
    measures: Mapping[str, LayerMeasures],
    plates: Sequence[Plate],
    sections: Sequence[tuple[str, str]] = (),
    script: str = "",
) -> list[Path]:
    """measures.csv and .json, every plate as png and svg, report.html."""
    first, *others = measures.values()
    rows = [{"model": name, **row} for name, own in measures.items() for row in own.rows()] if others else first.rows()
    content = {"facts": dict(facts), "models": {name: own.to_dict() for name, own in measures.items()}}
    content.update(first.to_dict())
    files = [write_csv(folder / "measures.csv", rows), write_json(folder / "measures.json", content)]
    for plate in plates:
        files += plate.write(folder)
    link = data_uri(csv_text(rows).encode(), "text/csv")
    download = f'<p><a download="measures.csv" href="{link}">Download as csv</a></p>'
    headings = {
        "layers": "Does each layer compress and sparsify?",
        "objective": "The objective, layer by layer",
        "subspaces": "How incoherent the subspaces are",
        "attention": "Where the class token looks",
        "attention_patch": "Where the chosen patch looks",
        "heads": "Heads by what they answer to",
        "components": "Components of the subspace features",
    }
    page = [(headings.get(plate.name, plate.name.replace("_", " ")), plate.html()) for plate in plates]
    page += [*sections, ("All measures", table_html(rows) + download)]
    files.append(write_bytes(folder / "report.html", page_html(title, facts, page, script).encode()))
    return files


def inspect_model(
    model: Any,
    inputs: ModelInputs,
    output: str | Path,
    mode: RateMode = "official",
    *,
    name: str = "model",
    on: str = "the given inputs",
    part: str = "encoder",
    layer: int | None = None,
    num_pictures: int = 6,
    patch: tuple[int, int] | None = None,
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    baseline: Baseline | None = None,
    batch_size: int = 16,
) -> Inspection:
    """Measure a model on a stream of inputs and write a table, figures and one html page.

    Args:
        model, inputs, mode, part, batch_size: as in `measure_layers`. Images are streamed; the first `num_pictures`
            are kept for the maps.
        output: the folder to write; files of the same names in it are replaced, others stay.
        name, on: what to call the model and the data in captions.
        layer: for maps and components; None is the second-to-last.
        patch: (row, column) of a patch whose attention is drawn too.
        normalisation: (mean, standard deviation) of the images, to show them in their own colours.
        baseline: (name, model, its inputs), drawn in the same figures.

    Raises:
        ValueError: as in `measure_layers`; a layer that does not exist.
    """
    sampler = _Sampler(inputs, num_pictures)
    if unwrap(model).main_input_name == "pixel_values":
        segmentation_layer(model, layer)  # a layer that does not exist is told before the work, not after
    measures = measure_with_baseline(name, model, sampler, mode, baseline, part, batch_size)
    plates = measure_plates(measures, on)
    images = [batch["pixel_values"] for batch in sampler.kept if "pixel_values" in batch]
    arrays = []
    if images and num_pictures > 0 and part == "encoder":
        shown = torch.cat(images)
        attention = attention_maps(model, shown)
        plates += picture_plates(model, shown, name, on, attention, layer, normalisation, patch)
        arrays.append(write_arrays(Path(output) / "attention.npz", attention=attention.maps.numpy()))
    first = measures[name]
    facts = {
        "model": f"{name} ({first.model})",
        "data": on,
        "samples": first.num_samples,
        "mode": mode,
        "epsilon": first.epsilon,
        "part": part,
    }
    files = write_inspection(Path(output), f"Inside {name}", facts, measures, plates)
    return Inspection(first, tuple(plates), (*files, *arrays))


__all__ = [
    "Baseline",
    "Inspection",
    "inspect_model",
    "measure_plates",
    "measure_with_baseline",
    "picture_plates",
    "write_inspection",
]
