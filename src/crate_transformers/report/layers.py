"""Measures by layer, of one model or several, and of one model over its training: as figures, and as charts of a page.

Shapes: L layers, K heads.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .canvas import axes_grid, new_figure, whole_numbers
from .charts import Chart, Series
from .colors import PALETTE
from .heats import Heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP"
_FRACTIONS = ("nonzero_fraction", "hoyer_sparsity")  # in [0, 1]
_SIZE = 10  # of the type, points


_LAYERS = {
    "coding_rate": "coding rate Rᶜ (nats)",
    "nonzero_fraction": "fraction of non-zero entries",
    "hoyer_sparsity": "Hoyer's sparsity (1: one entry)",
}
_OBJECTIVE = {
    "rate": "coding rate R (nats)",
    "rate_reduction": "rate reduction ΔR = R - Rᶜ (nats)",
    "sparse_rate_reduction": "ΔR - λ‖Z‖₀ (nats)",
}
_BY_LAYER = "layer (from 0)"
_COHERENCE = "mean coherence of pairs of heads"
_OVER_TRAINING = {
    "layer_coding_rate": "coding rate Rᶜ (nats)",
    "layer_nonzero_fraction": "fraction of codes > 0",
}


class LayerNumbers(Protocol):
    """Measures of a model: every field holds one entry a layer. `analysis.LayerMeasures` is one.

    Beside these it has the means and standard deviations of all measures by name: rate_mean, rate_std and so on.
    """

    def __len__(self) -> int: ...

    @property
    def subspace_coherence(self) -> tuple[float, ...]:
        """In [0, 1]."""

    @property
    def subspace_block_norms(self) -> tuple[tuple[tuple[float, ...], ...], ...]:
        """K x K numbers a layer."""


def _by_layer(axis: "Axes", label: str) -> None:
    axis.set_xlabel(_BY_LAYER, fontsize=_SIZE)
    axis.set_ylabel(label, fontsize=_SIZE)
    axis.tick_params(labelsize=_SIZE - 1)
    whole_numbers(axis.xaxis)
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _curve(axis: "Axes", measures: LayerNumbers, column: str, label: str | None, number: int) -> None:
    mean, std = (np.asarray(getattr(measures, f"{column}_{kind}")) for kind in ("mean", "std"))
    layers, color = np.arange(len(mean)), PALETTE[number % len(PALETTE)]
    axis.plot(layers, mean, color=color, marker=_MARKERS[number % len(_MARKERS)], markersize=5, label=label)
    axis.fill_between(layers, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)


def flattened(models: Mapping[str, LayerNumbers], column: str) -> bool:
    """Whether on one common axis the curve of a model would take less than a quarter of the height.

    What is a fraction keeps one axis: there the height itself says something.
    """
    if column in _FRACTIONS:
        return False
    ranges = []
    for measures in models.values():
        mean, std = (np.asarray(getattr(measures, f"{column}_{kind}"), dtype=float) for kind in ("mean", "std"))
        known = np.isfinite(mean)
        if known.any():
            ranges.append((float((mean - std)[known].min()), float((mean + std)[known].max())))
    spans = [high - low for low, high in ranges if high > low]
    if len(spans) < 2:
        return False
    return min(spans) < (max(high for _, high in ranges) - min(low for low, _ in ranges)) / 4


def _curves(models: Mapping[str, LayerNumbers], panels: Mapping[str, str]) -> "Figure":
    """One panel a measure (column -> axis label), one curve a model; mean and one standard deviation.

    Where a common axis would flatten one of the curves, each model has a panel of its own.
    """
    apart = [column for column in panels if flattened(models, column)]
    figure = new_figure(4.2 * len(panels), 2.6 * len(models) + 0.4 if apart else 3.6)
    grid = figure.add_gridspec(len(models) if apart else 1, len(panels))
    for place, (column, label) in enumerate(panels.items()):
        if column not in apart:
            common = figure.add_subplot(grid[:, place])
        for number, (name, measures) in enumerate(models.items()):
            axis = figure.add_subplot(grid[number, place]) if column in apart else common
            _curve(axis, measures, column, name if len(models) > 1 else None, number)
            _by_layer(axis, label)
            if len(models) > 1:
                axis.legend(frameon=False, fontsize=_SIZE - 1)
    return figure


def _charts(models: Mapping[str, LayerNumbers], panels: Mapping[str, str]) -> list[Chart]:
    """One chart a measure with a series a model; one a model, where a common axis would flatten one of them."""
    charts = []
    for column, label in panels.items():
        series = [measured_series(name, own, column) for name, own in models.items()]
        together = [(label, series)]
        if flattened(models, column):
            together = [(f"{label}, {each.name}", [each]) for each in series]
        charts += [Chart(text, _BY_LAYER, tuple(some)) for text, some in together]
    return charts


def measured_series(name: str, measures: LayerNumbers, column: str, first: int = 0) -> Series:
    """The mean and standard deviation of a measure by layer, numbered from `first`."""
    mean, std = (tuple(map(float, getattr(measures, f"{column}_{kind}"))) for kind in ("mean", "std"))
    return Series(name, tuple(range(first, first + len(mean))), mean, std)


def layers_figure(models: Mapping[str, LayerNumbers]) -> "Figure":
    """The figure of the papers: R^c and the non-zero fraction by layer; mean and one standard deviation.

    Beside it Hoyer's sparsity, which compares codes of ISTA with activations that are never exactly 0.

    Source: arXiv 2306.01129, Figures 3 and 4.
    """
    return _curves(models, _LAYERS)


def layers_charts(models: Mapping[str, LayerNumbers]) -> list[Chart]:
    """The same as charts."""
    return _charts(models, _LAYERS)


def objective_figure(models: Mapping[str, LayerNumbers]) -> "Figure":
    """R, Delta R and the sparse rate reduction by layer; mean and one standard deviation."""
    return _curves(models, _OBJECTIVE)


def objective_charts(models: Mapping[str, LayerNumbers]) -> list[Chart]:
    """The same as charts."""
    return _charts(models, _OBJECTIVE)


def subspaces_figure(measures: LayerNumbers) -> "Figure":
    """How incoherent the subspaces are: the coherence by layer, and the block norms of U^T U of three layers."""
    chosen = _three_layers(measures)
    figure = new_figure(3.4 + 3.1 * len(chosen), 3.3)
    axes = axes_grid(figure, 1, 1 + len(chosen))[0]
    axes[0].plot(range(len(measures)), measures.subspace_coherence, color=PALETTE[0], marker="o", markersize=5)
    axes[0].set_ylim(0, 1)
    _by_layer(axes[0], _COHERENCE)
    norms = [np.asarray(measures.subspace_block_norms[layer]) for layer in chosen]
    for axis, layer, norm in zip(axes[1:], chosen, norms, strict=True):
        shown = axis.imshow(norm, cmap="cividis", vmin=0, vmax=max(n.max() for n in norms))
        axis.set_title(f"layer {layer}", fontsize=_SIZE)
        axis.set_xlabel("head", fontsize=_SIZE)
        axis.tick_params(labelsize=_SIZE - 2)
        whole_numbers(axis.xaxis)
        whole_numbers(axis.yaxis)
    bar = figure.colorbar(shown, ax=list(axes[1:]), shrink=0.85)
    bar.set_label(r"$\Vert U_k^T U_l \Vert_F$", fontsize=_SIZE)
    return figure


def _three_layers(measures: LayerNumbers) -> list[int]:
    return sorted({0, len(measures) // 2, len(measures) - 1})


def subspaces_chart(measures: LayerNumbers) -> Chart:
    """The coherence by layer as a chart."""
    layers = tuple(range(len(measures)))
    series = Series("coherence", layers, tuple(map(float, measures.subspace_coherence)))
    return Chart(_COHERENCE, _BY_LAYER, (series,), limits=(0.0, 1.0))


def subspaces_heats(measures: LayerNumbers) -> list[Heat]:
    """The block norms of three layers as tables of colours, on one scale."""
    norms = {layer: np.asarray(measures.subspace_block_norms[layer], dtype=float) for layer in _three_layers(measures)}
    top = max((float(np.nanmax(norm, initial=0)) for norm in norms.values()), default=0.0)
    return [
        Heat(f"‖U_kᵀU_l‖, layer {layer}", norm, "head", "head", *([str(i) for i in range(len(norm))],) * 2, top=top)
        for layer, norm in norms.items()
        if norm.size
    ]


def layer_heats(history: Sequence[Mapping[str, Any]]) -> list[Heat]:
    """Layer by step: how coding rate and sparsity came about, where `measure_every` logged them twice or more."""
    entries = [entry for entry in history if "layer_coding_rate" in entry]
    if len(entries) < 2:
        return []
    steps = [str(entry["step"]) for entry in entries]
    heats = []
    for name, label in _OVER_TRAINING.items():
        values = np.asarray([entry[name] for entry in entries], dtype=float).T  # (layers, steps)
        heats.append(Heat(label, values, "layer", "optimizer step", [str(i) for i in range(len(values))], steps))
    return heats


__all__ = [
    "LayerNumbers",
    "flattened",
    "layer_heats",
    "layers_charts",
    "layers_figure",
    "measured_series",
    "objective_charts",
    "objective_figure",
    "subspaces_chart",
    "subspaces_figure",
    "subspaces_heats",
]
