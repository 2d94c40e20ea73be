"""The trace: what every layer saw and made, as a typed record.

    Z (tokens_in) -> LN -> W_k = U_k^T LN(Z) (projections) -> attention -> Z_half (half_tokens) -> code -> tokens_out

Shapes: B batch, N tokens, d hidden_size, K heads, p head_dim, m entries of a code (atoms of the dictionary).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..configuration.validation import as_pair
from ..errors import UserError
from ..upstream import recorded_names
from .architectures import Architecture, architecture_of, backbone_of, declared, unwrap
from .batches import ModelInputs, model_batches

logger = logging.getLogger(__name__)

RECORDS = ("tokens", "half_tokens", "compression_inputs", "projections", "memberships", "codes", "attention")
_FLAGS = {
    "tokens": "output_hidden_states",
    "half_tokens": "output_half_hidden_states",
    "compression_inputs": "output_compression_inputs",
    "projections": "output_subspace_projections",
    "memberships": "output_memberships",
    "codes": "output_codes",
    "attention": "output_attentions",
}


@dataclass(frozen=True)
class LayerTrace:
    """What one layer saw and made; a tensor that was not asked for is None.

    Attributes:
        tokens_in: Z (B, N, d). tokens_out: Z_next (B, N, d).
        compression_inputs: what the projection reads, LN(Z) (B, N, d).
        projections: W_k, the projected tokens (B, K, N, p).
        attention: (B, K, N, N), rows sum to 1.
        half_tokens: Z_half (B, N, d).
        memberships: Pi of tssa (B, N, K), how far each token belongs to each head.
        codes: the sparse code (B, N, m); a baseline's MLP activations; None in a decoder.

    Example:
        >>> LayerTrace(codes=torch.zeros(2, 17, 384)).get("codes").shape
        torch.Size([2, 17, 384])
    """

    tokens_in: Tensor | None = None
    tokens_out: Tensor | None = None
    compression_inputs: Tensor | None = None
    projections: Tensor | None = None
    attention: Tensor | None = None
    half_tokens: Tensor | None = None
    memberships: Tensor | None = None
    codes: Tensor | None = None

    def get(self, name: str) -> Tensor:
        """A tensor by its name; a ValueError where it was not recorded."""
        value = getattr(self, name)
        if value is None:
            raise UserError(f"{name} was not recorded: ask for it, one of {', '.join(RECORDS)}")
        return value


@dataclass(frozen=True)
class Trace:
    """A batch through a model.

    Attributes:
        layers: one record a layer.
        is_token: (B, N) bool, False for padding; None where every token counts.
        grid: (rows, columns) of patches for an image model; the tokens are then `prefix` others (the class token) and
            the patches.
        inputs: what the model was given.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> record = trace(model, torch.rand(2, 3, 32, 32), ("codes",))
        >>> len(record), record.grid, record.is_token is None
        (2, (4, 4), True)
    """

    layers: tuple[LayerTrace, ...]
    is_token: Tensor | None
    grid: tuple[int, int] | None
    inputs: dict[str, Tensor]
    prefix: int = 1

    def __len__(self) -> int:
        return next(iter(self.inputs.values())).shape[0]


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _with_fields(config: Any, **fields: Any) -> Iterator[None]:
    missing = object()
    before = {name: getattr(config, name, missing) for name in fields}
    for name, value in fields.items():
        setattr(config, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                delattr(config, name)
            else:
                setattr(config, name, value)


@contextmanager
def eager_attention(model: PreTrainedModel, is_told: bool = True) -> Iterator[None]:
    """Run with the one attention operator that gives its weights, and say so where that is a change and to be told."""
    before = model.config._attn_implementation
    if before == "eager":
        yield
        return
    if is_told:
        logger.warning(
            "attention weights were asked for and %r does not give them: running %s with eager attention for this call",
            before,
            type(model).__name__,
        )
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def patch_grid(model: PreTrainedModel, pixel_values: Tensor) -> tuple[int, int]:
    """(rows, columns) of whole patches in images (B, C, H, W).

    Raises:
        ValueError: images that are not 4-d, or smaller than one patch.
    """
    if pixel_values.ndim != 4:
        raise UserError(f"images must be (batch, channels, height, width), got shape {tuple(pixel_values.shape)}")
    height, width = pixel_values.shape[-2:]
    patch_height, patch_width = as_pair(model.config.patch_size)
    if hasattr(model.config, "grid_of") and min(model.config.grid_of(height, width)) > 0:
        return model.config.grid_of(height, width)  # ToST rounds up
    if height < patch_height or width < patch_width:
        raise UserError(
            f"an image of {height} x {width} pixels is smaller than one patch of {patch_height} x {patch_width}: "
            "enlarge it"
        )
    return height // patch_height, width // patch_width


def _image_arguments(model: PreTrainedModel, arguments: dict[str, Tensor]) -> tuple[dict[str, Any], tuple[int, int]]:
    """Arguments for an image of any size: cut to whole patches, positions resampled where the size is not its own."""
    grid = patch_grid(model, arguments["pixel_values"])
    patch = as_pair(model.config.patch_size)
    height, width = grid[0] * patch[0], grid[1] * patch[1]
    pixel_values = arguments["pixel_values"][..., :height, :width]
    extra: dict[str, Any] = {"pixel_values": pixel_values}
    if (height, width) != as_pair(model.config.image_size):
        extra["interpolate_pos_encoding"] = True
    if model.config.model_type == "vit_mae" and "noise" not in arguments:  # keep the patches in their order
        num_patches = grid[0] * grid[1]
        extra["noise"] = torch.arange(num_patches, device=pixel_values.device).float().expand(len(pixel_values), -1)
    return {**arguments, **extra}, grid


def by_head(projected: Tensor, heads: int) -> Tensor:
    """(B, K, N, p) of heads side by side (B, N, K p)."""
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def _values_by_head(projected: Tensor, heads: int, architecture: Architecture) -> Tensor:
    part, parts = architecture.value_part
    return by_head(projected.chunk(parts, dim=-1)[part], heads)


def _by_layer(
    outputs: Any, record: str, layers: nn.ModuleList, architecture: Architecture, start: int = 0
) -> list[Any]:
    """The tensors (B, ...) of a record, one a layer; None where it was not asked for, or the layer made none."""
    found = list(outputs.get(record) or ())
    if record == "hidden_states":
        return found or [None] * (len(layers) + 1)
    made = iter(found)
    return [
        next(made, None) if index >= start and architecture.makes(layer, record) else None
        for index, layer in enumerate(layers)
    ]


def _layers(
    outputs: Any, layers_of: nn.ModuleList, heads: int, architecture: Architecture, start: int = 0
) -> tuple[LayerTrace, ...]:
    num_layers = len(layers_of)
    tokens, halves, inputs, projected, memberships, codes, attentions = (
        _by_layer(outputs, flag.removeprefix("output_"), layers_of, architecture, start) for flag in _FLAGS.values()
    )
    if tokens[0] is not None:
        tokens = [tokens[0], *outputs["layer_outputs"]]
    layers = []
    for layer in range(num_layers):
        half = halves[layer]
        if half is not None and architecture.half_is_increment:
            half = tokens[layer] + half
        projections = projected[layer]
        layers.append(
            LayerTrace(
                tokens_in=tokens[layer],
                tokens_out=tokens[layer + 1],
                compression_inputs=inputs[layer] if architecture.normalises_input else tokens[layer],
                projections=None if projections is None else _values_by_head(projections, heads, architecture),
                attention=attentions[layer],
                half_tokens=half,
                memberships=memberships[layer],
                codes=codes[layer],
            )
        )
    return tuple(layers)


def _flags(records: tuple[str, ...], architecture: Architecture) -> dict[str, bool]:
    unknown = [name for name in records if name not in RECORDS]
    if unknown:
        raise UserError(f"unknown record {unknown[0]!r}: expected some of {', '.join(RECORDS)}")
    wanted = set(records)
    if ("half_tokens" in wanted and architecture.half_is_increment) or (
        "compression_inputs" in wanted and not architecture.normalises_input
    ):
        wanted.add("tokens")
    flags = {_FLAGS[name]: True for name in RECORDS if name in wanted}
    return {**flags, "output_layer_outputs": True} if "tokens" in wanted else flags


@contextmanager
def _standing_still(layers: nn.ModuleList, records: Sequence[LayerTrace]) -> Iterator[None]:
    """Within the scope, the first layers give the tokens of their records instead of computing."""

    def give(tokens: Tensor) -> Callable[..., Tensor]:
        return lambda *arguments, **options: tokens

    still = [layer for layer, _ in zip(layers, records, strict=False)]
    for layer, record in zip(still, records, strict=True):
        vars(layer)["forward"] = give(record.get("tokens_out"))
    try:
        yield
    finally:
        for layer in still:
            del vars(layer)["forward"]


@dataclass(frozen=True)
class Reading:
    """Which model is run, which part of it is recorded, and what.

    whole: the model with its head. backbone: without. recorded: the part whose layers are read. flags: `_flags`.
    """

    whole: PreTrainedModel
    backbone: PreTrainedModel
    recorded: PreTrainedModel
    architecture: Architecture
    flags: dict[str, bool]

    @classmethod
    def of(cls, model: nn.Module, records: tuple[str, ...], part: str) -> "Reading":
        whole, backbone = unwrap(model), backbone_of(model)
        architecture = architecture_of(backbone, part)
        if part == "decoder" and not hasattr(whole, "decoder"):
            raise UserError(f"{type(whole).__name__} has no decoder: load it as CrateMAEForPreTraining")
        recorded = cast(PreTrainedModel, whole.decoder) if part == "decoder" else backbone
        return cls(whole, backbone, recorded, architecture, _flags(records, architecture))

    def run(self, arguments: dict[str, Tensor]) -> Trace:
        """The trace of one batch."""
        return self.run_whole(arguments)[0]

    def run_whole(self, arguments: dict[str, Tensor], before: Trace | None = None, start: int = 0) -> tuple[Trace, Any]:
        """The trace of one batch, and the outputs of the part that was recorded.

        Args:
            before: an earlier trace of the same batch with tokens, whose layers before `start` still hold: they are not
                run again.
        """
        is_token = arguments.get("attention_mask")
        grid = None
        if "pixel_values" in arguments:
            arguments, grid = _image_arguments(self.backbone, arguments)
        layers = self.architecture.layers(self.recorded)
        kept = () if before is None else before.layers[:start]
        with self._recording(), _standing_still(layers, kept):
            outputs = self._outputs(arguments)
        heads = getattr(self.backbone.config, self.architecture.heads_field)
        made = _layers(outputs, layers, heads, self.architecture, len(kept))
        record = Trace(
            layers=(*kept, *made[len(kept) :]),
            is_token=None if is_token is None or is_token.ndim != 2 or is_token.bool().all() else is_token.bool(),
            grid=grid,
            inputs=arguments,
            prefix=self.architecture.prefix_tokens,
        )
        return record, outputs

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Evaluation mode without gradients, with all that is recorded declared; afterwards as it was found."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(_evaluating(self.whole))
            stack.enter_context(_with_fields(self.backbone.config, **self.architecture.needs))
            stack.enter_context(declared(self.recorded, self.architecture))
            if "output_attentions" in self.flags:
                stack.enter_context(eager_attention(self.whole))
            yield

    def _makes(self, record: str) -> bool:
        """Whether the part declares a record and one of its layers makes it."""
        layers = self.architecture.layers(self.recorded)
        return record in recorded_names(self.recorded) and any(self.architecture.makes(one, record) for one in layers)

    def _outputs(self, arguments: dict[str, Tensor]) -> Any:
        made = {flag: True for flag in self.flags if self._makes(flag.removeprefix("output_"))}
        if self.recorded is not self.backbone:
            return self.recorded(self.backbone(**arguments).last_hidden_state, **made)
        extra = {"use_cache": False} if "input_ids" in arguments or "inputs_embeds" in arguments else {}
        return self.recorded(**arguments, **extra, **made)


def trace_batches(
    model: nn.Module,
    inputs: ModelInputs,
    records: tuple[str, ...] = RECORDS,
    *,
    part: str = "encoder",
    batch_size: int = 16,
) -> Iterator[Trace]:
    """Run a model over inputs and give a `Trace` for each batch; nothing is held between two of them.

    Args:
        model: CRATE (any family, with or without a head), or transformers' ViT, ViT-MAE, BERT, GPT-2. It is run in
            evaluation mode without gradients, and left as it was found. An autoencoder sees the whole image, unless
            its masking arguments are among the inputs.
        inputs: images (B, C, H, W), token ids (B, T), a dictionary of model inputs, or an iterable of those.
        records: what to record, of `RECORDS`. "attention" switches to eager attention for the call and says so.
        part: "encoder", or "decoder" of the CRATE autoencoder.
        batch_size: samples in one run of the model.

    Raises:
        ValueError: a model, input, record or part that is not known.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> [trace] = trace_batches(model, torch.zeros(2, 3, 32, 32), ("projections",))
        >>> len(trace.layers), trace.layers[0].projections.shape
        (12, torch.Size([2, 6, 17, 64]))
    """
    reading = Reading.of(model, tuple(records), part)
    for arguments in model_batches(reading.backbone, inputs, batch_size):
        yield reading.run(arguments)


def trace(model: nn.Module, inputs: ModelInputs, records: tuple[str, ...] = RECORDS, *, part: str = "encoder") -> Trace:
    """Run a model on one batch and record what every layer saw and made; arguments as in `trace_batches`.

    Raises:
        ValueError: as in `trace_batches`; or inputs that are more than one batch.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> record = trace(model, torch.rand(2, 3, 32, 32), ("tokens", "attention"))
        >>> record.layers[0].tokens_in.shape, record.layers[0].attention.shape
        (torch.Size([2, 17, 384]), torch.Size([2, 6, 17, 17]))
    """
    traces = list(trace_batches(model, inputs, records, part=part, batch_size=2**31))
    if len(traces) != 1:
        raise UserError(f"trace takes one batch, got {len(traces)}: use trace_batches to stream over many")
    return traces[0]


__all__ = [
    "RECORDS",
    "LayerTrace",
    "Reading",
    "Trace",
    "by_head",
    "eager_attention",
    "patch_grid",
    "trace",
    "trace_batches",
]
