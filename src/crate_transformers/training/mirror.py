"""Is the decoder the mirror image of the encoder? Coding rate and non-zero fraction, in and back out, as measured.

By the theory every encoder layer compresses and sparsifies, and every decoder layer undoes one of them: R^c and the
non-zero fraction fall on the way in and rise on the way out, along the same curve.

Source: arXiv 2404.02446, section 3 and its figure of layer-wise measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..analysis import measure_layers
from .figures import BLUE, ORANGE


@dataclass(frozen=True)
class Mirror:
    """LayerMeasures of the encoder and of the decoder, on whole images."""

    encoder: Any
    decoder: Any

    def sentence(self) -> str:
        """What the two curves do, in one plain sentence."""
        rate = _verdict(self.encoder.coding_rate_mean, self.decoder.coding_rate_mean, "the coding rate R^c", "nats")
        count = _verdict(
            self.encoder.nonzero_fraction_mean, self.decoder.nonzero_fraction_mean, "the non-zero fraction", ""
        )
        return f"{rate[0]}; {count[0]}: {_SUMMARY[rate[1], count[1]]}."

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


_SUMMARY = {
    (True, True): "the mirror image of the theory is there, in both",
    (True, False): "the mirror image of the theory is there in the coding rate, not in the non-zeros",
    (False, True): "the mirror image of the theory is there in the non-zeros, not in the coding rate",
    (False, False): "the mirror image of the theory is not there",
}


def _verdict(inward: Sequence[float], outward: Sequence[float], name: str, unit: str) -> tuple[str, bool]:
    """(what the curves do, whether they fall inwards and rise outwards along one curve: correlation above 0.5)."""
    a, b = np.asarray(inward, dtype=float), np.asarray(outward, dtype=float)
    alike = _correlation(a, b[::-1])
    scale = max(np.abs(a).max(), np.abs(b).max(), 1e-12)
    falls, rises = (a[0] - a[-1]) > 0.01 * scale, (b[-1] - b[0]) > 0.01 * scale
    correlation = "" if alike is None else f" (correlation with the turned encoder curve {alike:.2f})"
    digits, unit = (1, f" {unit}") if unit else (2, "")
    text = (
        f"{name} goes from {a[0]:.{digits}f} to {a[-1]:.{digits}f}{unit} through the encoder and from "
        f"{b[0]:.{digits}f} to {b[-1]:.{digits}f}{unit} through the decoder{correlation}"
    )
    return text, bool(falls and rises and (alike is None or alike > 0.5))


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
