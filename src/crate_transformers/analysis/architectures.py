"""What each architecture declares to be recorded, and where its subspaces are.

CRATE's projections are its subspaces. A baseline of transformers (ViT, ViT-MAE, BERT, GPT-2) has no such thing by
design; its value projections take that place, its MLP's activations the place of the codes, so every figure has its
baseline. Tensors are recorded by transformers' own `OutputRecorder`s, addressed by the end of a module's name.

Shapes: d hidden_size, K heads, p head_dim.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import UserError
from ..layers.adapters import refuse_adapters
from ..models.modeling_base import output_of
from ..upstream import _CAN_RECORD_REGISTRY, OutputRecorder, maybe_install_capturing_hooks, recursively_install_hooks


@dataclass(frozen=True)
class Architecture:
    """How to read one architecture.

    Attributes:
        recorders: tensor name -> end of the name of the module whose output it is; only what the model does not
            declare itself. Names: subspace_projections, half_hidden_states, compression_inputs, codes.
        layers: the list of layers of a backbone.
        subspaces: the projection of one layer, U^T as a matrix (K p, d); None where the layer has no subspaces.
        norm: the LayerNorm of a layer before its projection; None where it reads the tokens as they are.
        project: what the projection makes of normalised tokens, (B, N, d) -> (B, N, K p); None as for `subspaces`.
        heads_end: the module of a layer whose input (B, N, K p) are the heads side by side; None where there is none.
        makes: whether a layer makes a record ("subspace_projections", "memberships", "codes",
            "attentions"); blocks differ in that.
        coding: the module of a layer whose output is the code. code_width: its number of entries m.
        half_is_increment: the recorded half_hidden_states are the attention's output, to be added to the tokens.
        normalises_input: False where the projection reads the tokens as they are (post-norm BERT).
        value_part: which part of the recorded projections is the value, and of how many (GPT-2: the last of 3).
    """

    recorders: dict[str, str]
    layers: Callable[[Any], nn.ModuleList]
    subspaces: Callable[[Any], Tensor | None]
    norm: Callable[[Any], nn.Module | None]
    project: Callable[[Any, Tensor], Tensor | None]
    heads_end: Callable[[Any], nn.Module | None]
    coding: Callable[[Any], nn.Module]
    code_width: Callable[[Any], int]
    makes: Callable[[Any, str], bool] = lambda layer, record: record != "memberships"
    half_is_increment: bool = False
    normalises_input: bool = True
    value_part: tuple[int, int] = (0, 1)
    heads_field: str = "num_attention_heads"
    rate_of: Callable[[Any], str] = lambda layer: "values"  # what a layer's R^c is of, see `CompressionOperator`
    prefix_tokens: int = 1  # tokens of an image before its patches: the class token
    needs: dict[str, Any] = field(default_factory=dict)  # config fields that a trace sets for its duration


_VIT = Architecture(
    recorders={
        "subspace_projections": ".attention.v_proj",
        "half_hidden_states": ".attention.o_proj",
        "compression_inputs": ".layernorm_before",
        "codes": ".mlp.activation_fn",
    },
    layers=lambda model: model.layers,
    subspaces=lambda layer: layer.attention.v_proj.weight,
    norm=lambda layer: layer.layernorm_before,
    project=lambda layer, tokens: layer.attention.v_proj(tokens),
    heads_end=lambda layer: layer.attention.o_proj,
    coding=lambda layer: layer.mlp.activation_fn,
    code_width=lambda layer: layer.mlp.fc1.out_features,
    half_is_increment=True,
)


def _block_makes(layer: Any, record: str) -> bool:
    operator = layer.compression.attention
    answers = {
        "subspace_projections": lambda: operator.bases() is not None,
        "codes": lambda: layer.sparsification.code_width() is not None,
        "attentions": lambda: operator.gives_map,
        "memberships": lambda: operator.rate_of == "memberships",
    }
    return bool(answers[record]()) if record in answers else True


def _project(operator: Any, tokens: Tensor) -> Tensor | None:
    return None if operator.bases() is None else operator.project(tokens).flatten(2)


def _heads_end(operator: Any) -> nn.Module | None:
    return None if getattr(operator, "is_tied", False) else getattr(operator, "output", None)


_CRATE = Architecture(  # the blocks of a layer answer for themselves
    recorders={"compression_inputs": ".compression.norm"},
    layers=lambda model: model.layers,
    subspaces=lambda layer: layer.compression.attention.bases(),
    norm=lambda layer: layer.compression.norm,
    project=lambda layer, tokens: _project(layer.compression.attention, tokens),
    heads_end=lambda layer: _heads_end(layer.compression.attention),
    # where no code is made, the tokens that leave the layer stand for it
    coding=lambda layer: getattr(layer.sparsification, "coding", layer),
    code_width=lambda layer: layer.sparsification.code_width() or layer.compression.norm.weight.shape[0],
    makes=_block_makes,
    rate_of=lambda layer: layer.compression.attention.rate_of,
)
ARCHITECTURES: dict[str, Architecture] = {
    "crate": _CRATE,
    "crate_vision": _CRATE,
    "crate_mae": _CRATE,
    "tost": _CRATE,
    "tost_vision": replace(_CRATE, prefix_tokens=0),  # its class token comes after the layers
    "crate_mae decoder": Architecture(
        recorders={"compression_inputs": ".expansion.norm"},
        layers=lambda model: model.layers,
        subspaces=lambda layer: layer.expansion.attention.bases(),
        norm=lambda layer: layer.expansion.norm,
        project=lambda layer, tokens: _project(layer.expansion.attention, tokens),
        heads_end=lambda layer: _heads_end(layer.expansion.attention),
        coding=lambda layer: layer,  # a decoder layer makes no code: its tokens stand for it
        rate_of=lambda layer: "subspaces",
        code_width=lambda layer: layer.linear.weight.shape[0],
        heads_field="decoder_num_attention_heads",
    ),
    "vit": _VIT,
    "vit_mae": Architecture(**{**vars(_VIT), "needs": {"mask_ratio": 0.0}}),
    "bert": Architecture(
        recorders={
            "subspace_projections": ".attention.self.value",
            "half_hidden_states": ".attention.output",
            "codes": ".intermediate",
        },
        layers=lambda model: model.encoder.layer,
        subspaces=lambda layer: layer.attention.self.value.weight,
        norm=lambda layer: None,
        project=lambda layer, tokens: layer.attention.self.value(tokens),
        heads_end=lambda layer: layer.attention.output.dense,
        coding=lambda layer: layer.intermediate,
        code_width=lambda layer: layer.intermediate.dense.out_features,
        normalises_input=False,
    ),
    "gpt2": Architecture(
        recorders={
            "subspace_projections": ".attn.c_attn",
            "half_hidden_states": ".attn.c_proj",
            "compression_inputs": ".ln_1",
            "codes": ".mlp.act",
        },
        layers=lambda model: model.h,
        subspaces=lambda layer: layer.attn.c_attn.weight.mT.chunk(3)[2],  # Conv1D holds (d, 3 d)
        norm=lambda layer: layer.ln_1,
        project=lambda layer, tokens: layer.attn.c_attn(tokens).chunk(3, dim=-1)[2],
        heads_end=lambda layer: layer.attn.c_proj,
        coding=lambda layer: layer.mlp.act,
        code_width=lambda layer: layer.mlp.c_fc.nf,
        half_is_increment=True,
        value_part=(2, 3),
    ),
}


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The Hugging Face model inside compilers', parallelisers' and our own wrappers.

    Raises:
        ValueError: there is none.
    """
    inner: Any = model
    while not isinstance(inner, PreTrainedModel):
        wrapped = [getattr(inner, name) for name in ("_orig_mod", "module", "model") if hasattr(inner, name)]
        inner = wrapped[0] if wrapped else None
        if not isinstance(inner, nn.Module):
            raise UserError(
                f"expected a transformers model (CRATE, ViT, ViT-MAE, BERT or GPT-2), got {type(model).__name__}"
            )
    return inner


def backbone_of(model: nn.Module) -> PreTrainedModel:
    """The backbone of a model with or without a head."""
    return cast(PreTrainedModel, unwrap(model).base_model)


def architecture_of(backbone: PreTrainedModel, part: str = "encoder") -> Architecture:
    """How to read a backbone.

    Args:
        part: "encoder", or "decoder" of the CRATE autoencoder.

    Raises:
        ValueError: a model type that is not in the table, a part that the model does not have.
    """
    if part not in ("encoder", "decoder"):
        raise UserError(f"part must be 'encoder' or 'decoder', got {part!r}")
    name = backbone.config.model_type + (" decoder" if part == "decoder" else "")
    if name not in ARCHITECTURES:
        raise UserError(f"cannot look inside a model of type {name!r}: expected one of {', '.join(ARCHITECTURES)}")
    if getattr(backbone, "is_fused", False):
        raise UserError("a fused model is closed: look inside the model that it was made from")
    refuse_adapters(backbone, "cannot look inside")
    return ARCHITECTURES[name]


def all_make(model: nn.Module, record: str) -> bool:
    """Whether every layer of a model's backbone makes a record ("subspace_projections", "codes", "attentions")."""
    backbone = backbone_of(model)
    architecture = architecture_of(backbone)
    return all(architecture.makes(layer, record) for layer in architecture.layers(backbone))


@contextmanager
def _hooks_removed(model: PreTrainedModel) -> Iterator[None]:
    """Forward hooks that come to a model within the scope leave with it: transformers' stay, and cannot be pickled."""
    before = {part: set(part._forward_hooks) for part in model.modules()}
    unmarked = [part for part in model.modules() if _INSTALLED not in vars(part)]
    try:
        yield
    finally:
        for part, kept in before.items():
            for number in set(part._forward_hooks) - kept:
                del part._forward_hooks[number]
        for part in unmarked:
            vars(part).pop(_INSTALLED, None)


_INSTALLED = "_output_capturing_hooks_installed"  # transformers' mark on a model that has its hooks


@contextmanager
def declared(model: PreTrainedModel, architecture: Architecture) -> Iterator[None]:
    """Let a model record the extra tensors of its architecture, by `output_<name>=True`, within the scope."""
    recorders = {name: output_of(suffix) for name, suffix in architecture.recorders.items()}
    # hidden_states may end with the final norm's output: a layer's own is recorded beside it
    recorders["layer_outputs"] = OutputRecorder(type(architecture.layers(model)[0]))
    registry, key = _CAN_RECORD_REGISTRY, str(model.__class__)
    own = dict.get(registry, key) or {}
    with _hooks_removed(model):
        maybe_install_capturing_hooks(model)
        recursively_install_hooks(model, "", list(recorders.items()))
        dict.__setitem__(registry, key, {**own, **recorders})
        try:
            yield
        finally:
            dict.__setitem__(registry, key, own)


__all__ = ["ARCHITECTURES", "Architecture", "all_make", "architecture_of", "backbone_of", "declared", "unwrap"]
