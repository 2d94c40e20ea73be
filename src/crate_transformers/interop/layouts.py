"""The public checkpoint layouts: how each is recognised, what its names are here, what its shapes say.

One entry a layout in LAYOUTS. A name of the checkpoint is matched whole against the patterns of its layout; a name
that no pattern matches is an error of the checkpoint, not something to drop.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration import CrateConfig, CrateMAEConfig, CrateVisionConfig
from ..configuration.validation import as_pair
from ..errors import UserError
from ..layers import sincos_positions
from ..models import (
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateMAEForPreTraining,
    CrateMAEModel,
    CrateModel,
)
from ..models.modeling_crate import PUBLIC_ENCODER_KEYS

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """A public layout.

    names: pattern -> our name. ignored: patterns of tensors that carry no parameter, with the reason.
    layers: what the names of a stack of layers begin with; the group is the number of the layer.
    fields: state dict and extras -> config fields. model_class: state dict -> class.
    subspaces: the names that end so hold U. sizes_from: tensors from whose shapes a configuration is inferred, each
    with its number of axes.
    """

    name: str
    is_layout: Callable[[StateDict], bool]
    names: dict[str, str]
    config_class: type[PreTrainedConfig]
    fields: Callable[[StateDict, Mapping[str, Any]], dict[str, Any]]
    model_class: Callable[[StateDict], type[PreTrainedModel]]
    layers: tuple[str, ...]
    subspaces: str
    sizes_from: dict[str, int]
    ignored: dict[str, str] = field(default_factory=dict)
    transpose: Callable[[str, Tensor], bool] = lambda name, tensor: False
    check: Callable[[StateDict, PreTrainedConfig], None] = lambda state, config: None

    def translate(self, state: StateDict) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors under our names, and a line for each that is left out.

        Raises:
            ValueError: a name that is not one of this layout's, two names of one tensor, a tensor of whole numbers.
        """
        translated: dict[str, Tensor] = {}
        sources: dict[str, str] = {}
        notes: list[str] = []
        for name, tensor in state.items():
            reason = self._reason_to_drop(name)
            if reason is not None:
                notes.append(f"{name} is dropped: {reason}")
                continue
            ours = _rename(name, self.names)
            if ours is None:
                raise UserError(f"unexpected key {name[:200]!r} in a checkpoint of the {self.name} layout")
            if ours in translated:
                raise UserError(f"the checkpoint holds a tensor twice, as {sources[ours]} and as {name}: leave one out")
            if not tensor.is_floating_point():
                raise UserError(f"{name} is of whole numbers ({tensor.dtype}): expected floating-point numbers")
            sources[ours] = name
            translated[ours] = tensor.mT.contiguous() if tensor.ndim == 2 and self.transpose(ours, tensor) else tensor
        return translated, notes

    def check_layers(self, state: StateDict) -> None:
        """Refuse a stack with gaps: its layers count from 0, and each has the tensors that the others have.

        Raises:
            ValueError: a layer, or a tensor of a layer, is missing; it is named.
        """
        for pattern in self.layers:
            stack: dict[str, set[str]] = {}
            before = ""
            for name in state:
                match = re.match(pattern, name)
                if match and self._reason_to_drop(name) is None:
                    before = name[: match.start(1)]
                    stack.setdefault(match[1], set()).add(name[match.end() :])
            everything = set().union(*stack.values())
            for number in range(len(stack)):
                lost = sorted(everything - stack.get(str(number), set()))
                if len(lost) == len(everything):
                    others = ", ".join(name[:20] for name in sorted(stack, key=lambda name: (len(name), name))[-2:])
                    raise UserError(f"missing in the checkpoint: layer {number}, {before}{number}.*; it holds {others}")
                if lost:
                    raise UserError(f"missing in the checkpoint: {before}{number}.{lost[0]}, which other layers have")

    def _reason_to_drop(self, name: str) -> str | None:
        return next((why for pattern, why in self.ignored.items() if re.fullmatch(pattern, name)), None)

    def public_name(self, ours: str) -> str:
        """The name that a checkpoint of this layout gives to one of our tensors."""
        return _rename(ours, dict(map(_invert, self.names.items()))) or ours


def _rename(name: str, names: Mapping[str, str]) -> str | None:
    for pattern, template in names.items():
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(template)
    return None


def _invert(rule: tuple[str, str]) -> tuple[str, str]:
    """A rule (pattern, template) read from right to left; its groups are flat, its optional parts are present."""
    pattern, template = rule[0].replace("(?:crate\\.)?", "crate\\."), re.escape(rule[1])
    for number, group in enumerate(re.findall(r"\([^()]*\)", pattern), start=1):
        pattern = pattern.replace(group, rf"\g<{number}>", 1)
        template = template.replace(rf"\\{number}", f"(?P<g{number}>{group[1:-1]})", 1)
        pattern = pattern.replace(rf"\g<{number}>", rf"\g<g{number}>", 1)
    return template, pattern.replace(r"\.", ".")


def _depth(state: StateDict, pattern: str) -> int:
    """How many layers a stack has, which `check_layers` has found to be without gaps."""
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})


def _any_match(state: StateDict, pattern: str) -> bool:
    return any(re.fullmatch(pattern, name) for name in state)


def _require(state: StateDict, axes: Mapping[str, int]) -> None:
    """Refuse a checkpoint without these tensors, or with other numbers of axes."""
    for name, count in axes.items():
        if name not in state:
            raise UserError(f"missing key {name!r}: the checkpoint is incomplete")
        if state[name].ndim != count:
            raise UserError(f"misshapen key {name!r}: expected {count} axes, got shape {tuple(state[name].shape)}")


def _pixels(name: str, size: Any) -> tuple[int, int]:
    """(height, width) that the user gave."""
    height, width = as_pair(size)
    if min(height, width) < 1:
        raise UserError(f"{name} must be positive, got {size}")
    return height, width


def _square_grid(state: StateDict, table: str, overrides: Mapping[str, Any]) -> tuple[int, int]:
    num_patches = state[table].shape[1] - 1
    if num_patches < 1:
        raise UserError(f"misshapen key {table!r}: expected a class token and patches, got {tuple(state[table].shape)}")
    side = math.isqrt(num_patches)
    if side * side != num_patches and "image_size" not in overrides:
        raise UserError(
            f"the {num_patches} patches of {table} do not make a square image: pass image_size and patch_size (--set "
            "image_size=[H,W] --set patch_size=[h,w])"
        )
    return side, side


def _patch_fields(state: StateDict, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """image_size, patch_size, num_channels from what a flattened patch and the position table hold."""
    patch_dim = state["to_patch_embedding.2.weight"].shape[1]
    channels = overrides.get("num_channels")
    if channels is not None and channels < 1:
        raise UserError(f"num_channels must be positive, got {channels}")
    if "patch_size" in overrides:
        height, width = _pixels("patch_size", overrides["patch_size"])
        if patch_dim % (height * width):
            raise UserError(
                f"a patch of {patch_dim} values (to_patch_embedding.2.weight) is not {height} x {width} pixels of "
                "whole channels: pass another patch_size"
            )
        channels = channels or patch_dim // (height * width)
        patch: Any = overrides["patch_size"]
    else:
        candidates = [channels] if channels else [3, 1]
        square = [c for c in candidates if patch_dim % c == 0 and math.isqrt(patch_dim // c) ** 2 == patch_dim // c]
        if not square:
            raise UserError(
                f"a patch of {patch_dim} values (to_patch_embedding.2.weight) is not a square of "
                f"{' or '.join(map(str, candidates))} channels: pass patch_size and num_channels"
            )
        channels = square[0]
        patch = math.isqrt(patch_dim // channels)
    rows, columns = _square_grid(state, "pos_embedding", overrides)
    height, width = as_pair(patch)
    image = overrides.get("image_size", (rows * height, columns * width))
    image = image[0] if isinstance(image, tuple | list) and image[0] == image[1] else image
    return {"image_size": image, "patch_size": patch, "num_channels": channels}


# -- vision classifier ------------------------------------------------------------------------------------------------


def _vision_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    _require(state, _VISION.sizes_from)
    fields = _patch_fields(state, extra)
    return {
        **fields,
        "hidden_size": state["cls_token"].shape[-1],
        "num_hidden_layers": _depth(state, _VISION.layers[0]),
        "num_labels": state["mlp_head.1.weight"].shape[0],
        "attention_output_projection": any(".fn.to_out." in name for name in state),
        "attention_inner_size": state["transformer.layers.0.0.fn.qkv.weight"].shape[0],
    }


_VISION = Layout(
    name="vision classifier",
    is_layout=lambda state: _any_match(state, r"transformer\.layers\.\d+\.(0\.fn\.qkv|1\.fn)\.weight"),
    layers=(r"transformer\.layers\.(\d+)\.",),
    subspaces="fn.qkv.weight",
    sizes_from={
        "cls_token": 3,
        "pos_embedding": 3,
        "to_patch_embedding.2.weight": 2,
        "transformer.layers.0.0.fn.qkv.weight": 2,
        "mlp_head.1.weight": 2,
    },
    names={
        r"cls_token": "crate.embeddings.cls_token",
        r"pos_embedding": "crate.embeddings.position_embeddings",
        r"to_patch_embedding\.1\.(weight|bias)": r"crate.embeddings.patch_embeddings.patch_norm.\1",
        r"to_patch_embedding\.2\.(weight|bias)": r"crate.embeddings.patch_embeddings.projection.\1",
        r"to_patch_embedding\.3\.(weight|bias)": r"crate.embeddings.patch_embeddings.norm.\1",
        r"transformer\.layers\.(\d+)\.0\.norm\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        r"transformer\.layers\.(\d+)\.0\.fn\.qkv\.weight": r"crate.layers.\1.compression.attention.subspaces.weight",
        r"transformer\.layers\.(\d+)\.0\.fn\.to_out\.0\.(weight|bias)": (
            r"crate.layers.\1.compression.attention.output.\2"
        ),
        r"transformer\.layers\.(\d+)\.1\.norm\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        r"transformer\.layers\.(\d+)\.1\.fn\.weight": r"crate.layers.\1.sparsification.coding.dictionary",
        r"mlp_head\.0\.(weight|bias)": r"norm.\1",
        r"mlp_head\.1\.(weight|bias)": r"classifier.\1",
    },
    config_class=CrateVisionConfig,
    fields=_vision_fields,
    model_class=lambda state: CrateForImageClassification,
)

# -- masked autoencoder -----------------------------------------------------------------------------------------------


def _mae_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    _require(state, _MAE.sizes_from)
    width, channels, height, patch_width = state["patch_embed.proj.weight"].shape
    rows, columns = _square_grid(state, "decoder_pos_embed", extra)
    image: Any = (rows * height, columns * patch_width)
    fields = {
        "image_size": extra.get("image_size", image[0] if image[0] == image[1] else image),
        "patch_size": height if height == patch_width else (height, patch_width),
        "num_channels": channels,
        "hidden_size": width,
        "num_hidden_layers": _depth(state, _MAE.layers[0]),
        "attention_output_projection": any(".fn.to_out." in name for name in state),
        "attention_inner_size": state["blocks.0.layers.0.0.fn.qkv.weight"].shape[0],
    }
    decoder_depth = _depth(state, _MAE.layers[1])
    return {**fields, "decoder_num_hidden_layers": decoder_depth} if decoder_depth else fields


def _check_mae_positions(state: StateDict, config: PreTrainedConfig) -> None:
    stored = state["decoder_pos_embed"].float()
    expected = (1, config.num_patches + 1, config.hidden_size)
    if stored.shape != expected:
        raise UserError(
            f"misshapen in the checkpoint: decoder_pos_embed (expected {expected}, got {tuple(stored.shape)}): pass "
            "the image_size and patch_size that the model was trained with"
        )
    if not torch.allclose(stored, sincos_positions(config.hidden_size, config.patch_grid), atol=1e-4):
        raise UserError(
            "decoder_pos_embed is not the fixed sine-cosine table of this image size: pass the image_size and "
            "patch_size that the model was trained with"
        )


_MAE = Layout(
    name="masked autoencoder",
    is_layout=lambda state: _any_match(state, r"blocks\.\d+\.layers\.0\.(0\.fn\.qkv|1\.fn)\.weight"),
    layers=(r"blocks\.(\d+)\.", r"decoder_blocks\.(\d+)\."),
    subspaces="fn.qkv.weight",
    sizes_from={
        "cls_token": 3,
        "patch_embed.proj.weight": 4,
        "decoder_pos_embed": 3,
        "blocks.0.layers.0.0.fn.qkv.weight": 2,
    },
    names={
        r"cls_token": "crate.embeddings.cls_token",
        r"mask_token": "crate.embeddings.mask_token",
        r"patch_embed\.proj\.(weight|bias)": r"crate.embeddings.patch_embeddings.projection.\1",
        r"blocks\.(\d+)\.layers\.0\.0\.norm\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        r"blocks\.(\d+)\.layers\.0\.0\.fn\.qkv\.weight": r"crate.layers.\1.compression.attention.subspaces.weight",
        r"blocks\.(\d+)\.layers\.0\.0\.fn\.to_out\.0\.(weight|bias)": (
            r"crate.layers.\1.compression.attention.output.\2"
        ),
        r"blocks\.(\d+)\.layers\.0\.1\.norm\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        r"blocks\.(\d+)\.layers\.0\.1\.fn\.weight": r"crate.layers.\1.sparsification.coding.dictionary",
        r"norm\.(weight|bias)": r"crate.norm.\1",
        r"decoder_blocks\.(\d+)\.layers\.0\.0\.norm\.(weight|bias)": r"decoder.layers.\1.linear.norm.\2",
        r"decoder_blocks\.(\d+)\.layers\.0\.0\.fn\.weight": r"decoder.layers.\1.linear.weight",
        r"decoder_blocks\.(\d+)\.layers\.0\.1\.norm\.(weight|bias)": r"decoder.layers.\1.expansion.norm.\2",
        r"decoder_blocks\.(\d+)\.layers\.0\.1\.fn\.qkv\.weight": (
            r"decoder.layers.\1.expansion.attention.subspaces.weight"
        ),
        r"decoder_blocks\.(\d+)\.layers\.0\.1\.fn\.to_out\.0\.(weight|bias)": (
            r"decoder.layers.\1.expansion.attention.output.\2"
        ),
        r"decoder_norm\.(weight|bias)": r"decoder.norm.\1",
        r"decoder_pred\.(weight|bias)": r"decoder.prediction.\1",
    },
    ignored={
        r"pos_embed": "the public code never uses it",
        r"decoder_embed\.(weight|bias)": "the public code never uses it",
        r"decoder_pos_embed": "the fixed sine-cosine table, computed here",
    },
    config_class=CrateMAEConfig,
    fields=_mae_fields,
    model_class=lambda state: (
        CrateMAEForPreTraining if any(name.startswith("decoder_blocks.") for name in state) else CrateMAEModel
    ),
    check=_check_mae_positions,
)

# -- causal language model --------------------------------------------------------------------------------------------


def _gpt_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    _require(state, _GPT.sizes_from)
    vocab_size, width = state["transformer.wte.weight"].shape
    atoms = state["transformer.h.0.ista.weight"].shape[0]
    if atoms % width:
        raise UserError(
            f"the {atoms} rows of transformer.h.0.ista.weight are no multiple of the width {width} of "
            "transformer.wte.weight"
        )
    shell = "gpt2-overcomplete-base" if atoms > width else "gpt2-base"
    fields = CrateConfig.from_size(shell).to_diff_dict()
    arguments = extra.get("model_args")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    special = 50256 if vocab_size > 50256 else None
    return {
        **{name: value for name, value in fields.items() if name not in ("transformers_version", "model_type")},
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": _depth(state, _GPT.layers[0]),
        "max_position_embeddings": state["transformer.wpe.weight"].shape[0],
        "dictionary_ratio": atoms // width,
        "final_layer_norm": _any_match(state, r"transformer\.ln_f\..+"),
        "attention_output_bias": any(name.endswith("attn.c_proj.bias") for name in state),
        "attention_inner_size": state["transformer.h.0.attn.c_attn.weight"].shape[0],
        "bos_token_id": special,
        "eos_token_id": special,
        "head_dim": None,
        **({"num_attention_heads": arguments["n_head"]} if "n_head" in arguments else {"num_attention_heads": None}),
        **(
            {"hidden_dropout_prob": arguments["dropout"], "attention_probs_dropout_prob": arguments["dropout"]}
            if "dropout" in arguments
            else {}
        ),
    }


_GPT = Layout(
    name="causal language model",
    is_layout=lambda state: _any_match(state, r"transformer\.h\.\d+\.(ista|prenorm_1)\.weight"),
    layers=(r"transformer\.h\.(\d+)\.",),
    subspaces="attn.c_attn.weight",
    sizes_from={
        "transformer.wte.weight": 2,
        "transformer.wpe.weight": 2,
        "transformer.h.0.attn.c_attn.weight": 2,
        "transformer.h.0.ista.weight": 2,
    },
    names={
        r"transformer\.wte\.weight": "crate.embeddings.word_embeddings.weight",
        r"transformer\.wpe\.weight": "crate.embeddings.position_embeddings.weight",
        r"transformer\.h\.(\d+)\.prenorm_1\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        r"transformer\.h\.(\d+)\.attn\.c_attn\.weight": r"crate.layers.\1.compression.attention.subspaces.weight",
        r"transformer\.h\.(\d+)\.attn\.c_proj\.(weight|bias)": r"crate.layers.\1.compression.attention.output.\2",
        r"transformer\.h\.(\d+)\.prenorm_2\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        r"transformer\.h\.(\d+)\.ista\.weight": r"crate.layers.\1.sparsification.coding.dictionary",
        r"transformer\.ln_f\.(weight|bias)": r"crate.norm.\1",
        r"lm_head\.weight": "lm_head.decoder.weight",
    },
    ignored={r"transformer\.h\.\d+\.attn\.(bias|masked_bias)": "the causal mask, which is no parameter"},
    config_class=CrateConfig,
    fields=_gpt_fields,
    model_class=lambda state: CrateForCausalLM,
    # the over-complete weight is (m, d); our dictionary is (d, m) like the square one
    transpose=lambda name, tensor: name.endswith("coding.dictionary") and tensor.shape[0] > tensor.shape[1],
)

# -- text encoder -----------------------------------------------------------------------------------------------------


def _encoder_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    base = "crate." if any(name.startswith("crate.") for name in state) else ""
    _require(state, {name.replace("crate.", base): axes for name, axes in _ENCODER.sizes_from.items()})
    vocab_size, width = state[f"{base}embeddings.word_embeddings.weight"].shape
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": _depth(state, _ENCODER.layers[0]),
        "max_position_embeddings": state[f"{base}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[f"{base}embeddings.token_type_embeddings.weight"].shape[0],
        "attention_inner_size": state[f"{base}encoder.layer.0.attention.self.qkv.weight"].shape[0],
    }
    if _encoder_class(state) is CrateForSequenceClassification:
        _require(state, {"classifier.out_proj.weight": 2})
    for head in ("classifier.out_proj.weight", "classifier.weight"):
        if head in state:
            _require(state, {head: 2})
        if head in state and not (head == "classifier.weight" and state[head].shape[0] == 1):
            fields["num_labels"] = state[head].shape[0]
    return fields


def _encoder_class(state: StateDict) -> type[PreTrainedModel]:
    if _any_match(state, r"lm_head\..+"):
        return CrateForMaskedLM
    if _any_match(state, r"classifier\.(dense|out_proj)\..+"):
        return CrateForSequenceClassification
    if _any_match(state, r"qa_outputs\..+"):
        return CrateForQuestionAnswering
    if "classifier.weight" in state:
        has_pooler = any("pooler." in name for name in state)
        return CrateForMultipleChoice if has_pooler else CrateForTokenClassification
    return CrateModel


_ENCODER = Layout(
    name="text encoder",
    is_layout=lambda state: _any_match(state, r"(crate\.)?encoder\.layer\.\d+\.attention\.self\.(qkv|prenorm)\..+"),
    layers=(r"(?:crate\.)?encoder\.layer\.(\d+)\.",),
    subspaces="attention.self.qkv.weight",
    sizes_from={
        "crate.embeddings.word_embeddings.weight": 2,
        "crate.embeddings.position_embeddings.weight": 2,
        "crate.embeddings.token_type_embeddings.weight": 2,
        "crate.encoder.layer.0.attention.self.qkv.weight": 2,
    },
    names={
        **{
            rf"(?:crate\.)?{pattern}" + ("" if pattern.endswith("weight") else r"(weight|bias)"): (
                "crate." + ours + ("" if pattern.endswith("weight") else rf"\{pattern.count('(') + 1}")
            )
            for pattern, ours in PUBLIC_ENCODER_KEYS.items()
        },
        r"(?:crate\.)?embeddings\.(word|position|token_type)_embeddings\.weight": (
            r"crate.embeddings.\1_embeddings.weight"
        ),
        r"(?:crate\.)?pooler\.dense\.(weight|bias)": r"crate.pooler.dense.\1",
        r"(lm_head|classifier|qa_outputs)\.(.+)": r"\1.\2",
    },
    ignored={r"(?:crate\.)?embeddings\.(position_ids|token_type_ids)": "a counting buffer, which is no parameter"},
    config_class=CrateConfig,
    fields=_encoder_fields,
    model_class=_encoder_class,
)

LAYOUTS: tuple[Layout, ...] = (_VISION, _MAE, _GPT, _ENCODER)


def recognise(state: StateDict) -> Layout:
    """The layout of a state dict.

    Raises:
        ValueError: none of ours; CRATE-alpha is refused by name.
    """
    if any(name.endswith("1.fn.D1") for name in state):
        raise UserError(
            "this is a CRATE-alpha checkpoint (over-complete decoupled dictionaries D and D1); the alpha family is not "
            "part of this version"
        )
    for layout in LAYOUTS:
        if layout.is_layout(state):
            return layout
    sample = ", ".join(name[:80] for name in list(state)[:6])
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise UserError(f"not a CRATE checkpoint: its keys ({sample}, ...) fit none of the layouts {known}")


__all__ = ["LAYOUTS", "Layout", "recognise"]
