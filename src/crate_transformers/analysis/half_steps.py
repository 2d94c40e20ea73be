"""The ladder: the objective before a layer, after the step that compresses, and after the step that sparsifies.

    compress   Z_half = Z + MSSA(LN(Z))     should lower R^c(Z; U)                            [P1, section 2.3]
    sparsify   Z_next = ISTA(LN(Z_half))    should raise R(Z) - lambda ||Z||_0                [P1, eq. 12]

All three points of a layer are measured under that layer's own U, as `measure_layers` does it: in mode "official" the
value before the compression, in mode "paper" the value after it, is the one that `measure_layers` gives (of tssa the
value before it in either mode: its memberships are held fixed through the layer).

Shapes: B batch, L layers, N tokens, d hidden_size, K heads, p head_dim.

[P1] arXiv 2306.01129.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..objective import coding_rate, normalize_tokens
from ..objective.coding_rate import RateMode
from .architectures import Architecture, architecture_of, backbone_of
from .batches import ModelInputs
from .gathering import gather
from .measures import PER_SAMPLE, how_measured, rates_of, sample_measures, subspaces_of
from .tracing import LayerTrace, Trace, by_head

POINTS = ("before", "compressed", "sparsified")


@dataclass(frozen=True)
class Ladder:
    """The measures of every half-step of every layer, means over the samples.

    Attributes:
        values: (L, 3, 5) float64: layers, `POINTS`, `columns`. Rates in nats. Before and after the compression the
            non-zero entries are those of the tokens, after the sparsification those of the code.
        entries: (L, 3), how many entries that is of, a sample.
        coding_rate_of: what R^c of each layer is of, as in `LayerMeasures`.
        sparsity_weight: lambda, nats a non-zero entry. mode: "official" or "paper".

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> ladder = measure_half_steps(model, torch.rand(2, 3, 32, 32))
        >>> ladder.of("coding_rate").shape, len(ladder.compresses)
        (torch.Size([12, 3]), 12)
    """

    values: Tensor
    entries: Tensor
    coding_rate_of: tuple[str, ...]
    sparsity_weight: float
    mode: str
    columns = PER_SAMPLE

    def of(self, column: str) -> Tensor:
        """(L, 3), one of `columns`: coding_rate (R^c), rate (R), rate_reduction (Delta R), sparse_rate_reduction,
        nonzero_fraction."""
        return self.values[..., self.columns.index(column)]

    @property
    def compresses(self) -> tuple[bool | None, ...]:
        """Whether the step that compresses lowered R^c; None where a layer has no R^c."""
        rate = self.of("coding_rate")
        return _signs(rate[:, 0] - rate[:, 1])

    @property
    def sparsifies(self) -> tuple[bool | None, ...]:
        """Whether the step that sparsifies raised R - lambda ||Z||_0."""
        gain = self.of("rate") - self.sparsity_weight * self.of("nonzero_fraction") * self.entries
        return _signs(gain[:, 2] - gain[:, 1])

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a point: layer (from 0), point, `columns`, whether the step that led there did its part."""
        answers = list(zip(self.compresses, self.sparsifies, strict=True))
        return [
            {
                "layer": layer,
                "point": point,
                **dict(zip(self.columns, self.values[layer, place].tolist(), strict=True)),
                "as_theory_says": None if place == 0 else answers[layer][place - 1],
            }
            for layer in range(len(self.values))
            for place, point in enumerate(POINTS)
        ]


def _signs(gains: Tensor) -> tuple[bool | None, ...]:
    return tuple(None if gain != gain else gain > 0 for gain in gains.tolist())


class LadderMeter:
    """Gathers the ladder from traces of a model, batch by batch; arguments as in `measure_layers`.

    Raises:
        ValueError: an unknown mode or model.
    """

    records = ("tokens", "half_tokens", "compression_inputs", "projections", "memberships", "codes")

    def __init__(
        self,
        model: nn.Module,
        mode: RateMode = "official",
        *,
        epsilon: float = 0.1,
        sparsity_weight: float | None = None,
    ) -> None:
        backbone = backbone_of(model)
        self._architecture = architecture_of(backbone)
        self._layers = self._architecture.layers(backbone)
        weights, heads = subspaces_of(model, "encoder")
        self._weights, self._rate_of = weights, rates_of(model, "encoder")
        self._how = how_measured(backbone.config, mode, epsilon, sparsity_weight, heads)
        self._total, self._entries, self._count = torch.zeros(()), torch.zeros(()), 0

    @torch.no_grad()
    def values(self, trace: Trace, start: int = 0) -> tuple[Tensor, Tensor]:
        """(values (B, L - start, 3, 5), entries (L - start, 3)) of the layers of a trace from `start` on."""
        found, entries = [], []
        for index in range(start, len(self._layers)):
            points = self._points(trace.layers[index], index)
            measured = [self._measured(trace, point, index) for point in points]
            found.append(torch.stack(measured, dim=1))
            entries.append([self._entries_of(trace, point) for point in points])
        return torch.stack(found, dim=1), torch.tensor(entries, dtype=torch.float64)

    def _points(self, layer: LayerTrace, index: int) -> list[LayerTrace]:
        """The layer's record as it would be at each of the three points; memberships of tssa are held fixed."""
        module, heads = self._layers[index], self._how.heads
        points = []
        for tokens, codes in (
            (layer.get("tokens_in"), None),
            (layer.get("half_tokens"), None),
            (layer.get("tokens_out"), layer.codes),
        ):
            norm = self._architecture.norm(module)
            normed = tokens if norm is None else norm(tokens)
            projected = self._architecture.project(module, normed)
            points.append(
                LayerTrace(
                    tokens_out=tokens,
                    compression_inputs=normed,
                    projections=None if projected is None else by_head(projected, heads),
                    half_tokens=tokens,
                    memberships=layer.memberships,
                    codes=codes,
                )
            )
        return points

    def _measured(self, trace: Trace, point: LayerTrace, index: int) -> Tensor:
        return sample_measures(replace(trace, layers=(point,)), 0, self._weights[index], self._how, name=index)

    def _entries_of(self, trace: Trace, point: LayerTrace) -> float:
        codes = point.get("tokens_out" if point.codes is None else "codes")
        tokens = codes.shape[1] if trace.is_token is None else trace.is_token.sum(dim=1).double().mean().item()
        return float(tokens * codes.shape[2])

    def update(self, trace: Trace) -> None:
        """Take in a batch.

        Raises:
            ValueError: values that are not finite.
        """
        values, entries = self.values(trace)
        self._total = self._total + values.sum(dim=0).cpu()
        self._entries = self._entries + entries * len(values)
        self._count += len(values)

    def ladder(self, values: Tensor, entries: Tensor) -> Ladder:
        """The ladder of mean values (L, 3, 5) and entries (L, 3)."""
        return Ladder(values.cpu(), entries, self._rate_of, self._how.sparsity_weight, self._how.mode)

    def result(self) -> Ladder:
        """The ladder of all samples so far."""
        return self.ladder(self._total / self._count, self._entries / self._count)


def measure_half_steps(
    model: nn.Module,
    inputs: ModelInputs,
    mode: RateMode = "official",
    *,
    epsilon: float = 0.1,
    sparsity_weight: float | None = None,
    batch_size: int = 16,
) -> Ladder:
    """Measure rates, sparsity and the objective before, between and after the two steps of every layer.

    Args:
        as in `measure_layers`.

    Raises:
        ValueError: as in `measure_layers`.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> measure_half_steps(model, torch.rand(2, 3, 32, 32), mode="paper").rows()[1]["point"]
        'compressed'
    """
    meter = LadderMeter(model, mode, epsilon=epsilon, sparsity_weight=sparsity_weight)
    gather(model, inputs, [meter], batch_size=batch_size)
    return meter.result()


def descent_angles(model: nn.Module, trace: Trace, mode: RateMode = "official", epsilon: float = 0.1) -> Tensor:
    """The angle between the step that a layer's compression takes and the steepest descent of R^c, in degrees.

    The step is Z_half - Z; the gradient is of R^c(Z; U), of LN(Z) with unit tokens in mode "official", through the
    LayerNorm. 0 is steepest descent, 90 no change of R^c to first order, above 90 an ascent.

    Args:
        trace: with tokens and half_tokens, of text without padding.

    Returns:
        (L, B); NaN in layers whose R^c is not of subspaces or values.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> from crate_transformers.analysis import trace
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> descent_angles(model, trace(model, torch.rand(2, 3, 32, 32), LadderMeter.records)).shape
        torch.Size([12, 2])
    """
    backbone = backbone_of(model)
    architecture = architecture_of(backbone)
    heads = getattr(backbone.config, architecture.heads_field)
    angles = []
    for module, layer in zip(architecture.layers(backbone), trace.layers, strict=True):
        tokens = layer.get("tokens_in")
        weight = architecture.subspaces(module)
        if weight is None or layer.memberships is not None:
            angles.append(tokens.new_full(tokens.shape[:1], torch.nan, dtype=torch.float64))
            continue
        step = (layer.get("half_tokens") - tokens).double()
        descent = -_gradient(architecture, module, tokens, heads, mode, epsilon)
        cosine = nn.functional.cosine_similarity(step.flatten(1), descent.flatten(1), dim=1)
        angles.append(cosine.clamp(-1, 1).acos().rad2deg())
    return torch.stack(angles)


def _gradient(
    architecture: Architecture, module: nn.Module, tokens: Tensor, heads: int, mode: RateMode, epsilon: float
) -> Tensor:
    """The gradient of R^c in Z, (B, N, d) float64."""
    with torch.enable_grad():
        point = tokens.detach().clone().requires_grad_()
        if mode == "official":
            norm = architecture.norm(module)
            projected = architecture.project(module, point if norm is None else norm(point))
            assert projected is not None
            projections = normalize_tokens(by_head(projected, heads))
        else:
            weight = architecture.subspaces(module)
            assert weight is not None
            projections = by_head(point.double() @ weight.detach().double().mT, heads)
        rate = coding_rate(projections.double(), epsilon).sum()
        (gradient,) = torch.autograd.grad(rate, point)
    return gradient.double()


def compression_shares(
    before: Tensor, after: Tensor, weight: Tensor, num_heads: int, epsilon: float = 0.1, points: int = 8
) -> Tensor:
    """Each token's share of what a step did to R^c_k: the gradient's part of the token, integrated along the step.

        share_ki = int_0^1 < dR^c_k / dw_i (W + t V), v_i > dt,   W = Z U_k, V = (Z_half - Z) U_k

    The shares of a head add up to its change of R^c_k (a path integral; Gauss-Legendre quadrature). Negative shares
    compress.

    Args:
        before, after: Z and Z_half (B, N, d), as they are (mode "paper"). weight: U^T (K p, d). points: of the
            quadrature.

    Returns:
        (B, K, N) nats, float64.

    Example:
        >>> z = torch.randn(1, 5, 6)
        >>> compression_shares(z, 0.9 * z, torch.eye(6), num_heads=2).shape
        torch.Size([1, 2, 5])

    Source: the attribution along a path of Aumann and Shapley (1974), as in arXiv 1703.01365.
    """
    basis = weight.detach().double().mT
    start = by_head(before.double() @ basis, num_heads)  # W (B, K, N, p)
    step = by_head(after.double() @ basis, num_heads) - start
    tokens, width = start.shape[2:]
    scale = width / (tokens * epsilon**2)
    places, weights = np.polynomial.legendre.leggauss(points)
    shares = torch.zeros(start.shape[:3], dtype=torch.float64, device=start.device)
    eye = torch.eye(width, dtype=torch.float64, device=start.device)
    for place, share in zip((places + 1) / 2, weights / 2, strict=True):
        here = start + float(place) * step
        inverse = torch.linalg.inv(eye + scale * here.mT @ here)
        shares += float(share) * scale * ((here @ inverse) * step).sum(dim=-1)
    return shares


__all__ = ["POINTS", "Ladder", "LadderMeter", "compression_shares", "descent_angles", "measure_half_steps"]
