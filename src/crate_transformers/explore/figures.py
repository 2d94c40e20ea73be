"""What is on the screen as a figure to take along: png or svg, drawn as the library's other figures are."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from .service import Service
from .state import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["png", "svg"]
_COLUMNS = (
    ("coding_rate", "R^c (nats)"),
    ("rate", "R (nats)"),
    ("rate_reduction", "R - R^c (nats)"),
    ("nonzero_fraction", "non-zero entries"),
)


def ladder_figure(service: Service, state: State, kind: Kind) -> bytes:
    """The ladder of both models, a panel a measure, as a file."""
    from matplotlib.figure import Figure

    ladder = service.answer(state, ("ladder",)).data["ladder"]
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    for axes, (column, label) in zip(figure.subplots(2, 2).flat, _COLUMNS, strict=True):
        for which in ("model", "other"):
            if which not in ladder:
                continue
            color, name = ("C0", "C1")[which == "other"], ladder[which]["name"]
            for layer, points in enumerate(ladder[which]["now"][column]):
                values = [np.nan if value is None else value for value in points]
                places = [layer, layer + 0.4, layer + 0.8]
                axes.plot(places, values, "o-", markersize=3, color=color, label=None if layer else name)
        axes.set_xlabel("layer: before, compressed, sparsified")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    return _file(figure, kind)


def maps_figure(service: Service, state: State, kind: Kind) -> bytes:
    """Attention of the chosen token in the chosen layer, a panel a head, over the picture."""
    from matplotlib.figure import Figure

    answer = service.answer(state, ("maps", "tokens"))
    found = answer.data["maps"][state.which]
    if "left_out" in found or found["grid"] is None:
        return ladder_figure(service, state, kind)
    heads = answer.arrays[f"maps/{state.which}"][state.layer][:, found["prefix"] :]
    picture = answer.arrays["tokens/picture"]
    figure = Figure(figsize=(2.2 * (len(heads) + 1), 2.6), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(heads) + 1)
    extent = (0, picture.shape[1], picture.shape[0], 0)
    panels[0].imshow(picture, extent=extent)
    panels[0].set_title("picture", fontsize=9)
    for head, axes in enumerate(panels[1:]):
        axes.imshow(picture, extent=extent, alpha=0.25)
        axes.imshow(heads[head].reshape(found["grid"]), extent=extent, alpha=0.8, cmap="viridis")
        axes.set_title(f"layer {state.layer}, head {head}", fontsize=9)
    for axes in panels:
        axes.set_axis_off()
    return _file(figure, kind)


def _file(figure: "Figure", kind: Kind) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=160)
    return buffer.getvalue()


__all__ = ["Kind", "ladder_figure", "maps_figure"]
