"""Is the decoder the mirror image of the encoder? Coding rate and non-zero fraction, in and back out, as measured.

By the theory every encoder layer compresses and sparsifies, and every decoder layer undoes one of them: R^c and the
non-zero fraction fall on the way in and rise on the way out, along the same curve.

Source: arXiv 2404.02446, section 3 and its figure of layer-wise measures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..analysis import measure_layers
from ..report.colors import BLUE, ORANGE


@dataclass(frozen=True)
class Mirror:
    """LayerMeasures of the encoder and of the decoder, on whole images."""

    encoder: Any
    decoder: Any

    def sentence(self) -> str:
        """What the two curves do, in one plain sentence."""
        told = []
        for column, name, unit in (
            ("coding_rate_mean", "the coding rate R^c", "nats"),
            ("nonzero_fraction_mean", "the non-zero fraction", ""),
        ):
            inward, outward = (np.asarray(getattr(part, column), dtype=float) for part in (self.encoder, self.decoder))
            curves = _Curves(inward, outward, name, unit)
            told.append(f"{curves.told()}: {curves.judged()}")
        return f"{'; '.join(told)}."

    def figure(self) -> Figure:
        """Both measures by layer, the decoder's after the encoder's, one standard deviation around."""
        figure = Figure(figsize=(10.4, 3.4), layout="constrained")
        panels = (("coding_rate", "coding rate R^c (nats)"), ("nonzero_fraction", "fraction of entries that are not 0"))
        depth = len(self.encoder)
        for axis, (column, label) in zip(figure.subplots(1, 2), panels, strict=True):
            for record, name, color, start in (
                (self.encoder, "encoder", BLUE, 0),
                (self.decoder, "decoder", ORANGE, depth),
            ):
                mean, std = (np.asarray(getattr(record, f"{column}_{kind}")) for kind in ("mean", "std"))
                places = np.arange(len(mean)) + start + 1
                axis.plot(places, mean, marker="o", color=color, label=name)
                axis.fill_between(places, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
            axis.axvline(depth + 0.5, color="0.6", linewidth=0.8, linestyle="--")
            axis.set_xlabel("layer, encoder then decoder")
            axis.set_ylabel(label)
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
        return figure

    def table(self) -> list[dict[str, Any]]:
        """Rows for a report: part, layer, R^c, non-zero fraction."""
        return [
            {
                "part": name,
                "layer": layer + 1,
                "R^c (nats)": f"{record.coding_rate_mean[layer]:.2f}",
                "non-zero fraction": f"{record.nonzero_fraction_mean[layer]:.3f}",
            }
            for name, record in (("encoder", self.encoder), ("decoder", self.decoder))
            for layer in range(len(record))
        ]


@dataclass(frozen=True)
class _Curves:
    """One measure through the encoder (inward) and the decoder (outward)."""

    inward: np.ndarray
    outward: np.ndarray
    name: str
    unit: str

    def told(self) -> str:
        digits, unit = (1, f" {self.unit}") if self.unit else (2, "")
        (a, b), (c, d) = (self.inward[0], self.inward[-1]), (self.outward[0], self.outward[-1])
        return (
            f"{self.name} goes from {a:.{digits}f} to {b:.{digits}f}{unit} through the encoder and from "
            f"{c:.{digits}f} to {d:.{digits}f}{unit} through the decoder"
        )

    def judged(self) -> str:
        """Whether the decoder undoes the encoder (opposite ways, correlated above 0.5 when turned), and which way."""
        ways = _way(self.inward), _way(self.outward)
        alike = _correlation(self.inward, self.outward[::-1])
        if ways[0] * ways[1] < 0 and (alike is None or alike > 0.5):
            correlation = "" if alike is None else f" (correlation {alike:.2f} with the turned encoder curve)"
            if ways[0] < 0:
                return f"the mirror image of the theory is there{correlation}"
            return (
                f"a mirror image is there{correlation}, but turned the other way: it rises inwards, where the theory "
                "lets it fall"
            )
        return "the mirror image of the theory is not there"


def _way(curve: np.ndarray) -> int:
    """1 where a curve ends more than 1 % of its largest value above its start, -1 below, 0 between."""
    change, scale = curve[-1] - curve[0], max(float(np.abs(curve).max()), 1e-12)
    return int(np.sign(change)) if abs(change) > 0.01 * scale else 0


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's, of two curves over the same depth from 0 to 1; None where one of them is flat or has two points."""
    count = max(len(a), len(b))
    if min(len(a), len(b)) < 3 or a.std() < 1e-6 or b.std() < 1e-6:
        return None
    places = np.linspace(0, 1, count)
    stretched = [np.interp(places, np.linspace(0, 1, len(curve)), curve) for curve in (a, b)]
    return float(np.corrcoef(*stretched)[0, 1])


def measure_mirror(model: Any, inputs: Any) -> Mirror:
    """Measure both halves of CrateMAEForPreTraining on whole images.

    Raises:
        ValueError: a model without a decoder of ours.
    """
    return Mirror(measure_layers(model, inputs), measure_layers(model, inputs, part="decoder"))


__all__ = ["Mirror", "measure_mirror"]
