"""Measures whether the decoder is the mirror image of the encoder: coding rate and non-zero fraction of every layer.

By the theory every encoder layer compresses and sparsifies, and every decoder layer undoes one of them: R^c and the
non-zero fraction fall on the way in and rise on the way out, along the same curve.

Source: arXiv 2404.02446, section 3 and its figure of layer-wise measures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from ..analysis.measures import LayerMeasures, measure_layers
from ..report.charts import Chart
from ..report.layers import measured_series


@dataclass(frozen=True)
class Mirror:
    """The measures of the layers of an encoder and of its decoder, on whole images."""

    encoder: LayerMeasures
    decoder: LayerMeasures

    def sentence(self) -> str:
        """One sentence about both measures: where each curve goes, and whether the decoder mirrors the encoder."""
        parts = []
        for column, name, unit in (
            ("coding_rate_mean", "the coding rate R^c", "nats"),
            ("nonzero_fraction_mean", "the non-zero fraction", ""),
        ):
            inward, outward = (np.asarray(getattr(part, column), dtype=float) for part in (self.encoder, self.decoder))
            curves = _Curves(inward, outward, name, unit)
            parts.append(f"{curves.course()}: {curves.verdict()}")
        return f"{'; '.join(parts)}."

    def charts(self) -> list[Chart]:
        """Both measures by layer, the decoder's after the encoder's, with a band of one standard deviation."""
        depth = len(self.encoder)
        return [
            Chart(
                label,
                "layer (from 1), encoder then decoder",
                (
                    measured_series("encoder", self.encoder, column, 1),
                    measured_series("decoder", self.decoder, column, depth + 1),
                ),
                line=depth + 0.5,
            )
            for column, label in (
                ("coding_rate", "coding rate Rᶜ (nats)"),
                ("nonzero_fraction", "fraction of entries that are not 0"),
            )
        ]

    def table(self) -> list[dict[str, str | int]]:
        """The rows of a report's table: part, layer (from 1), R^c in nats, non-zero fraction."""
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
    """One measure by layer, through the encoder (inward) and through the decoder (outward)."""

    inward: np.ndarray
    outward: np.ndarray
    name: str
    unit: str

    def course(self) -> str:
        """From where to where the measure goes in the two halves."""
        digits, unit = (1, f" {self.unit}") if self.unit else (2, "")
        (a, b), (c, d) = (self.inward[0], self.inward[-1]), (self.outward[0], self.outward[-1])
        return (
            f"{self.name} goes from {a:.{digits}f} to {b:.{digits}f}{unit} through the encoder and from "
            f"{c:.{digits}f} to {d:.{digits}f}{unit} through the decoder"
        )

    def verdict(self) -> str:
        """Whether the decoder undoes the encoder, and in which direction.

        It does where the two curves go opposite ways and the encoder's curve, turned around, correlates with the
        decoder's above 0.5.
        """
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
    """1 for a curve whose end is above its start by more than 1 % of its largest value, -1 for below, else 0."""
    change, scale = curve[-1] - curve[0], max(float(np.abs(curve).max()), 1e-12)
    return int(np.sign(change)) if abs(change) > 0.01 * scale else 0


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's correlation of two curves over depths from 0 to 1; None where one is flat or has below 3 points."""
    count = max(len(a), len(b))
    if min(len(a), len(b)) < 3 or a.std() < 1e-6 or b.std() < 1e-6:
        return None
    places = np.linspace(0, 1, count)
    stretched = [np.interp(places, np.linspace(0, 1, len(curve)), curve) for curve in (a, b)]
    return float(np.corrcoef(*stretched)[0, 1])


def measure_mirror(model: nn.Module, inputs: Mapping[str, Tensor]) -> Mirror:
    """Measure both halves of CrateMAEForPreTraining on whole images.

    Args:
        inputs: pixel_values (B, C, H, W).

    Raises:
        ValueError: the model has no CRATE decoder.
    """
    return Mirror(measure_layers(model, inputs), measure_layers(model, inputs, part="decoder"))


__all__ = ["Mirror", "measure_mirror"]
