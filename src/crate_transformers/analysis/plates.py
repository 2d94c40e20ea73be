"""The plates of a study: each figure with what it shows, on what, in which mode, by which version."""

from collections.abc import Mapping
from dataclasses import replace

from .. import __version__
from ..report.charts import chart_html, charts_html, panels_html
from ..report.heats import heat_html
from ..report.layers import (
    flattened,
    layers_charts,
    layers_figure,
    objective_charts,
    objective_figure,
    subspaces_chart,
    subspaces_figure,
    subspaces_heats,
)
from ..report.patches import attention_figure, components_figure, head_clusters_figure
from ..report.plates import Plate
from ..report.viewer import view_html
from .measures import LayerMeasures
from .picture_look import PictureLook

HEADINGS = {
    "layers": "Does each layer compress and sparsify?",
    "objective": "The objective, layer by layer",
    "subspaces": "How incoherent the subspaces are",
    "attention": "Attention and codes, layer by layer",
    "attention_patch": "Where the chosen patch looks",
    "heads": "Heads by what they answer to",
    "components": "Components of the subspace features",
}
_LAYERS = ("coding_rate",)
_OBJECTIVE = ("rate", "rate_reduction", "sparse_rate_reduction")
_MODES = {
    "official": "the input of MSSA, each projected token scaled to unit length",
    "paper": "Z_half, as it is",
}


def measure_plates(measures: Mapping[str, LayerMeasures], on: str) -> list[Plate]:
    """The figures of layer-wise measures of one or several models."""
    first = next(iter(measures.values()))
    by = f"Mean and one standard deviation over {first.num_samples} samples of {on}; {', '.join(measures)}"
    how = f"mode {first.mode} (on {_MODES[first.mode]}), epsilon {first.epsilon:g}; crate_transformers {__version__}"
    plates = [
        Plate(
            "layers",
            layers_figure(measures),
            f"{_rates_of(measures)}, and fraction of non-zero entries of the code after "
            "ISTA (of a baseline: after the MLP's activation), by layer; Hoyer's sparsity of the same (2004), which "
            f"also tells activations apart that are never exactly 0. {by}. {how}.{_apart(measures, _LAYERS)}",
            charts_html(layers_charts(measures)),
        ),
        Plate(
            "objective",
            objective_figure(measures),
            f"Coding rate R, rate reduction R - R^c, and sparse rate reduction with lambda {first.sparsity_weight:g} "
            f"nats a non-zero entry, by layer. {by}. {how}.{_apart(measures, _OBJECTIVE)}",
            charts_html(objective_charts(measures)),
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
                panels_html([chart_html(subspaces_chart(own)), *map(heat_html, subspaces_heats(own))]),
            )
        )
    return plates


def _apart(measures: Mapping[str, LayerMeasures], columns: tuple[str, ...]) -> str:
    """A sentence on models that have an axis of their own."""
    if not any(flattened(measures, column) for column in columns):
        return ""
    return " Where one axis would flatten a curve, each model has its own: mind the numbers."


def _rates_of(measures: Mapping[str, LayerMeasures]) -> str:
    """What the curves of R^c are of: of the subspaces, or what takes their place."""
    kinds = {kind for own in measures.values() for kind in own.coding_rate_of}
    told = {
        "subspaces": "Coding rate under the subspace codebooks, R^c",
        "values": "of mhsa and baselines, which have no one set of subspaces, the rate of the values",
        "memberships": "of tssa the variational rate under its memberships (another unit of noise: not on one scale)",
    }
    return "; ".join(told[kind] for kind in told if kind in kinds or kind == "subspaces")


def heading_of(plate_name: str) -> str:
    """The heading of a plate on a page; the plates of a baseline are named after it, with a number."""
    name, _, number = plate_name.rpartition("_")
    if name in HEADINGS and number.isdecimal():
        return f"{HEADINGS[name]} (baseline)"
    return HEADINGS.get(plate_name, plate_name.replace("_", " "))


def picture_plates(look: PictureLook, name: str, on: str, number: int = 1) -> list[Plate]:
    """The figures of a look at pictures; name, on: what to call model and data; number: of the model, from 1."""
    plates = _picture_plates(look, name, on)
    return plates if number == 1 else [replace(plate, name=f"{plate.name}_{number}") for plate in plates]


def _picture_plates(look: PictureLook, name: str, on: str) -> list[Plate]:
    rows, columns = look.attention.grid
    layer = look.layer
    about = (
        f"{name}, {len(look.pictures)} images of {on}, {rows} x {columns} patches; crate_transformers {__version__}."
    )
    is_membership = look.attention.query == "membership"
    shows = "Memberships of the patches in" if is_membership else "Attention of the class token over the patches,"
    agreeing = "membership" if is_membership else "class-token"
    plates = []
    if look.pointed is not None and not isinstance(look.pointed.query, str):
        row, column = look.pointed.query
        plates.append(
            Plate(
                "attention_patch",
                attention_figure(look.pictures, look.pointed, layer),
                f"Attention of the framed patch (row {row}, column {column}, from 0) over the patches, every "
                f"head of layer {layer} (from 0), each map stretched to its range. {about}",
            )
        )
    attention = Plate(
        "attention",
        attention_figure(look.pictures, look.attention, layer),
        f"{shows} every head of layer {layer} (from 0), each map stretched to its range: yellow high, violet "
        f"low. {about}",
    )
    if look.view is not None:
        looks = "how far the patches belong to the chosen head" if is_membership else "where the chosen patch looks"
        told = (
            f"What the model makes of a picture: {looks}, which share of each patch's code is not 0, where a neuron "
            f"fires; each map stretched to its range. {about}"
        )
        attention = replace(attention, drawn=view_html(look.view, attention.html()), told=told)
    return [
        *plates,
        attention,
        Plate(
            "heads",
            head_clusters_figure(look.pictures, look.attention, look.clusters),
            f"Heads of all layers by what they look at: clusters of heads whose {agreeing} maps agree over these "
            f"images (average linkage on 1 - correlation), the mean map of each; layer.head above. {about}",
        ),
        Plate(
            "components",
            components_figure(look.pictures, look.components),
            f"Principal components of the subspace features of layer {layer}, fitted jointly over the images: the "
            f"first over all patches ({100 * look.components.explained[0]:.0f} % of the variance; > 0 is taken for "
            f"foreground), and three over the foreground as red, green, blue. {about}",
        ),
    ]


__all__ = ["HEADINGS", "heading_of", "measure_plates", "picture_plates"]
