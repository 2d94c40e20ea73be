"""Layer-wise measures: does each layer compress, and does it sparsify?

    R^c(Z; U) = sum_k 1/2 logdet(I + p / (N eps^2) W_k^T W_k),  W_k = Z U_k            [P1, eq. 5]
    Delta R = R(Z) - R^c(Z; U);   sparse rate reduction = Delta R - lambda ||Z_next||_0   [P1, eq. 1, 6]

Two readings of "Z". "official" is the public measuring script's: W_k is the output of the projection inside MSSA, so
of LN(Z) on the input side of the layer, every projected token scaled to unit length. "paper" is the equation's: Z_half,
projected with the layer's U, as it is. R is taken of the same tokens in the same way: LN(Z) with tokens of unit length,
or Z_half. Everything that counts non-zeros counts the code that the sparsification makes.

Shapes: B batch, N tokens, d hidden_size, K heads, p head_dim, m entries of a code.

[P1] arXiv 2306.01129.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..errors import UserError
from ..objective import coding_rate, normalize_tokens, sparsity, variational_coding_rate
from ..objective.coding_rate import RateMode
from ..objective.sparsity import hoyer_by_token
from .architectures import all_make, architecture_of, backbone_of, unwrap
from .batches import ModelInputs
from .gathering import gather
from .statistics import RunningMoments
from .subspaces import block_norms, coherence
from .tracing import LayerTrace, Trace

# of each sample and layer; LayerMeasures adds the sparsity of Hoyer
PER_SAMPLE = ("coding_rate", "rate", "rate_reduction", "sparse_rate_reduction", "nonzero_fraction")


@dataclass(frozen=True)
class LayerMeasures:
    """Measures of every layer: each field of numbers holds one entry a layer, over the samples.

    Standard deviations of rates carry Bessel's correction (0 for one sample); that of the non-zero fraction is the
    population's, as in the public script.

    Attributes:
        model: name of the model's class. model_type: of its configuration. part: "encoder" or "decoder".
        mode: "official" or "paper". epsilon: precision of the rates. sparsity_weight: lambda, nats a non-zero entry.
        num_samples: images or sequences.
        coding_rate_mean, coding_rate_std: R^c, nats, summed over the heads.
        coding_rate_of: what it is of: "subspaces"; "values", where nothing else takes the place of U (mhsa, baselines);
            "memberships", of tssa: the variational rate F(W; Pi) of `variational_coding_rate`, in either mode of W as
            it is. F has its own unit of noise, so there is no Delta R with it (NaN).
        rate_mean, rate_std: R, nats.
        rate_reduction_mean, rate_reduction_std: Delta R = R - R^c, nats.
        sparse_rate_reduction_mean, sparse_rate_reduction_std: Delta R - lambda times the number of non-zeros, nats.
        nonzero_fraction_mean, nonzero_fraction_std: fraction of the code's entries that are not 0.
        hoyer_sparsity_mean, hoyer_sparsity_std: Hoyer's sparseness of the tokens' codes, in [0, 1], 1 for a single
            entry; unlike the fraction above it says something of GELU, which makes no exact 0.
        subspace_coherence: mean over pairs of heads of ||U_k^T U_l||_F / sqrt(||U_k^T U_k||_F ||U_l^T U_l||_F); 0
            for subspaces that are orthogonal to each other, 1 for equal ones.
        subspace_block_norms: K x K numbers a layer, ||U_k^T U_l||_F.

        tokens_per_sample: mean number of tokens that were measured, without padding.

    What needs subspaces is NaN in a layer whose compression has none.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> measures = measure_layers(model, torch.rand(2, 3, 32, 32))
        >>> len(measures), len(measures.coding_rate_mean), measures.num_samples
        (12, 12, 2)
    """

    model: str
    model_type: str
    part: str
    mode: str
    epsilon: float
    sparsity_weight: float
    num_samples: int
    coding_rate_mean: tuple[float, ...]
    coding_rate_std: tuple[float, ...]
    rate_mean: tuple[float, ...]
    rate_std: tuple[float, ...]
    rate_reduction_mean: tuple[float, ...]
    rate_reduction_std: tuple[float, ...]
    sparse_rate_reduction_mean: tuple[float, ...]
    sparse_rate_reduction_std: tuple[float, ...]
    nonzero_fraction_mean: tuple[float, ...]
    nonzero_fraction_std: tuple[float, ...]
    hoyer_sparsity_mean: tuple[float, ...]
    hoyer_sparsity_std: tuple[float, ...]
    subspace_coherence: tuple[float, ...]
    subspace_block_norms: tuple[tuple[tuple[float, ...], ...], ...]
    coding_rate_of: tuple[str, ...] = ()
    tokens_per_sample: float = 0.0

    def __len__(self) -> int:
        return len(self.coding_rate_mean)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the fields that hold one number a layer."""
        return tuple(
            f.name for f in fields(self) if f.name.endswith(("_mean", "_std")) or f.name == "subspace_coherence"
        )

    def rows(self) -> list[dict[str, float]]:
        """One dictionary a layer: `layer` (from 0) and every column of numbers."""
        return [{"layer": i, **{name: getattr(self, name)[i] for name in self.columns}} for i in range(len(self))]

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def _rates(tokens: Tensor, projections: Tensor, epsilon: float, layer: int) -> tuple[Tensor, Tensor]:
    """(R^c, R), (B,) each; values that are not finite are told by their layer."""
    try:
        compressed, rate = coding_rate(projections, epsilon).sum(dim=-1), coding_rate(tokens, epsilon)
    except torch.linalg.LinAlgError:
        compressed = rate = tokens.new_full(tokens.shape[:1], torch.nan)
    if not (torch.isfinite(compressed) & torch.isfinite(rate)).all():
        raise UserError(
            f"layer {layer} makes values that are not finite ({tokens.isinf().sum()} infinite, {tokens.isnan().sum()} "
            "NaN): run the model in bfloat16 or float32, or look at its weights"
        )
    return compressed, rate


def _rate_inputs(layer: LayerTrace, weight: Tensor | None, heads: int, mode: RateMode) -> tuple[Tensor, Tensor]:
    """(tokens (B, N, d), projections (B, K, N, p)) of a mode; K is 0 where the layer has no subspaces."""
    tokens = layer.get("compression_inputs" if mode == "official" else "half_tokens")
    if weight is None:
        return tokens, tokens[:, None][:, :0]  # (B, 0, N, d)
    if mode == "official":
        return tokens, layer.get("projections")
    projections = layer.get("half_tokens").float() @ weight.float().mT  # (B, N, K p)
    return layer.get("half_tokens"), projections.unflatten(-1, (heads, -1)).transpose(1, 2)


@dataclass(frozen=True)
class HowMeasured:
    """How a layer is measured: see `measure_layers`. heads: K of the measured part."""

    mode: RateMode
    epsilon: float
    sparsity_weight: float
    heads: int


def how_measured(
    config: PreTrainedConfig, mode: RateMode, epsilon: float, sparsity_weight: float | None, heads: int
) -> HowMeasured:
    """How the layers of a model are measured; a sparsity_weight of None is the model's lambda.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in ("official", "paper"):
        raise UserError(f"mode must be 'official' or 'paper', got {mode!r}")
    if sparsity_weight is None:
        sparsity_weight = float(getattr(config, "ista_lambda", 0.1))
    return HowMeasured(mode, epsilon, sparsity_weight, heads)


def sample_measures(
    trace: Trace, index: int, weight: Tensor | None, how: HowMeasured, name: int | None = None
) -> Tensor:
    """The columns PER_SAMPLE of one layer, (B, 5).

    Args:
        weight: the layer's U^T (K p, d), or None: then R^c is NaN. name: the number of the layer in messages; None is
            its index.
    """
    layer = trace.layers[index]
    # unit tokens are tame; raw ones can be long and of low rank, where float32 loses the 1 of I + G
    given = _rate_inputs(layer, weight, how.heads, how.mode)
    dtype = torch.float64 if how.mode == "paper" and given[0].device.type != "mps" else torch.float32
    tokens, projections = (t.to(dtype, memory_format=torch.contiguous_format) for t in given)
    if how.mode == "official":
        tokens, projections = normalize_tokens(tokens), normalize_tokens(projections)
    codes = layer.get("tokens_out" if layer.codes is None else "codes")
    fraction, entries = sparsity(codes), torch.tensor(float(codes.shape[-2] * codes.shape[-1]), device=codes.device)
    if trace.is_token is not None:
        real = trace.is_token.to(dtype)[..., None]  # (B, N, 1)
        count = real.sum(dim=(1, 2)).clamp(min=1)
        # without the padding N is smaller: zeroed tokens leave the Gram matrix, the factor puts N right
        factor = (tokens.shape[1] / count).sqrt()[:, None, None]
        tokens, projections = tokens * real * factor, projections * (real * factor)[:, None]
        entries = count * codes.shape[-1]
        fraction = ((codes != 0) & trace.is_token[..., None]).sum(dim=(1, 2)) / entries
    compressed, rate = _rates(tokens, projections, how.epsilon, index if name is None else name)
    if layer.memberships is not None:
        compressed = variational_coding_rate(layer.get("projections"), layer.memberships).to(rate.dtype)
    if weight is None:  # there are no subspaces under which to code the tokens
        compressed = torch.full_like(compressed, torch.nan)
    reduction = rate - compressed
    if layer.memberships is not None:  # F and R have different units of noise
        reduction = torch.full_like(rate, torch.nan)
    columns = (compressed, rate, reduction, reduction - how.sparsity_weight * fraction * entries, fraction)
    return torch.stack([column.double() for column in columns], dim=-1)


def hoyer_of_samples(trace: Trace, index: int) -> Tensor:
    """(B,): Hoyer's sparseness of the codes of one layer, meaned over the tokens that are no padding."""
    layer = trace.layers[index]
    values = hoyer_by_token(layer.get("tokens_out" if layer.codes is None else "codes"))  # (B, N)
    if trace.is_token is None:
        return values.mean(dim=-1)
    return (values * trace.is_token).sum(dim=-1) / trace.is_token.sum(dim=-1).clamp(min=1)


def subspaces_of(model: nn.Module, part: str) -> tuple[list[Tensor | None], int]:
    """(U^T (K p, d) of every layer, or None where it has no subspaces; K) of a part of a model."""
    backbone = backbone_of(model)
    architecture = architecture_of(backbone, part)
    recorded = getattr(unwrap(model), "decoder", None) if part == "decoder" else backbone
    if recorded is None:
        raise UserError(f"{type(unwrap(model)).__name__} has no decoder: load it as CrateMAEForPreTraining")
    heads = getattr(backbone.config, architecture.heads_field)
    weights = [architecture.subspaces(layer) for layer in architecture.layers(recorded)]
    return [None if weight is None else weight.detach() for weight in weights], heads


def rates_of(model: nn.Module, part: str) -> tuple[str, ...]:
    """What R^c of every layer is of, as `LayerMeasures.coding_rate_of` says it."""
    backbone = backbone_of(model)
    architecture = architecture_of(backbone, part)
    recorded: Any = getattr(unwrap(model), "decoder", None) if part == "decoder" else backbone
    return tuple(architecture.rate_of(layer) for layer in architecture.layers(recorded))


class LayerMeter:
    """Gathers the measures of every layer from traces of a model, batch by batch; arguments as in `measure_layers`.

    Raises:
        ValueError: an unknown mode, model or part.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: RateMode = "official",
        *,
        epsilon: float = 0.1,
        sparsity_weight: float | None = None,
        part: str = "encoder",
    ) -> None:
        self._weights, heads = subspaces_of(model, part)
        self._rate_of = rates_of(model, part)
        self._makes_codes = part != "decoder" and all_make(model, "codes")  # else the tokens stand for them
        config = backbone_of(model).config
        self._how = how_measured(config, mode, epsilon, sparsity_weight, heads)
        self._model, self._model_type, self._part = type(unwrap(model)).__name__, config.model_type, part
        self._moments = RunningMoments()
        self._tokens = 0

    @property
    def records(self) -> tuple[str, ...]:
        """What the traces must hold."""
        read = ("compression_inputs", "projections") if self._how.mode == "official" else ("half_tokens",)
        if "memberships" in self._rate_of:
            read = (*dict.fromkeys((*read, "projections", "memberships")),)
        return (*read, "codes", *(() if self._makes_codes else ("tokens",)))

    def update(self, trace: Trace) -> None:
        """Take in a batch.

        Raises:
            ValueError: values that are not finite.
        """
        with torch.no_grad():
            layers = [sample_measures(trace, i, weight, self._how) for i, weight in enumerate(self._weights)]
            hoyer = [hoyer_of_samples(trace, i).double() for i in range(len(layers))]
        columns = torch.cat([torch.stack(layers, dim=1), torch.stack(hoyer, dim=1)[..., None]], dim=-1)
        self._moments.update(columns)  # (B, L, 6)
        tokens = trace.layers[0].get("codes" if self._makes_codes else "tokens_out").shape[1]
        real = trace.is_token
        self._tokens += len(trace) * tokens if real is None else int(real.sum())

    def result(self) -> LayerMeasures:
        """The measures of all samples so far."""
        moments = self._moments
        mean, bessel, population = torch.as_tensor(moments.mean), moments.std(bessel=True), moments.std(bessel=False)
        columns: dict[str, tuple[float, ...]] = {}
        for index, name in enumerate((*PER_SAMPLE, "hoyer_sparsity")):
            std = population if name == "nonzero_fraction" else bessel
            columns[f"{name}_mean"] = tuple(mean[:, index].tolist())
            columns[f"{name}_std"] = tuple(std[:, index].tolist())
        none = torch.full((self._how.heads, self._how.heads), torch.nan)
        norms = [none if weight is None else block_norms(weight, self._how.heads) for weight in self._weights]
        return LayerMeasures(
            model=self._model,
            model_type=self._model_type,
            part=self._part,
            mode=self._how.mode,
            epsilon=self._how.epsilon,
            sparsity_weight=self._how.sparsity_weight,
            num_samples=moments.count,
            **columns,
            subspace_coherence=tuple(coherence(norm) for norm in norms),
            subspace_block_norms=tuple(tuple(map(tuple, norm.tolist())) for norm in norms),
            coding_rate_of=self._rate_of,
            tokens_per_sample=self._tokens / max(moments.count, 1),
        )


def measure_layers(
    model: nn.Module,
    inputs: ModelInputs | Mapping[str, Any],
    mode: RateMode = "official",
    *,
    epsilon: float = 0.1,
    sparsity_weight: float | None = None,
    part: str = "encoder",
    batch_size: int = 16,
) -> LayerMeasures:
    """Measure what every layer of a model does to its tokens: rates, rate reduction, sparsity, incoherence.

    Args:
        model: CRATE of any family, or transformers' ViT, ViT-MAE, BERT, GPT-2, with or without a head. It is left as
            it was found.
        inputs: images (B, C, H, W), token ids (B, T), a dictionary of model inputs (padding of an attention_mask is
            left out), or an iterable of those, which is streamed.
        mode: "official" or "paper" (see the top of this file).
        epsilon: precision of the rates, > 0.
        sparsity_weight: lambda of the sparse rate reduction; None takes the model's ista_lambda, or 0.1.
        part: "encoder", or "decoder" of the CRATE autoencoder.
        batch_size: samples in one run of the model; bounds the memory.

    Returns:
        one entry a layer.

    Raises:
        ValueError: an unknown mode, model or part; inputs that are empty or do not fit; values that are not finite.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> len(measure_layers(model, torch.zeros(2, 3, 32, 32)).coding_rate_mean)
        12

    Source: arXiv 2306.01129, section 3.2 and its figures of layer-wise measures.
    """
    meter = LayerMeter(model, mode, epsilon=epsilon, sparsity_weight=sparsity_weight, part=part)
    gather(model, inputs, [meter], part=part, batch_size=batch_size)
    return meter.result()


__all__ = ["LayerMeasures", "LayerMeter", "measure_layers"]
