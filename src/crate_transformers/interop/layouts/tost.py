"""The layout of the public ToST for text, nanoGPT with token statistics attention."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...configuration import TostConfig
from ...models import TostForCausalLM
from .layout import Layout, StateDict
from .shapes import any_match, depth, require


def _fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, TOST.sizes_from)
    vocab_size, width = state["transformer.wte.weight"].shape
    hidden = state["transformer.h.0.mlp.c_fc.weight"].shape[0]
    special = 50256 if vocab_size > 50256 else None
    arguments = extra.get("model_args")
    dropout = arguments.get("dropout") if isinstance(arguments, Mapping) else None
    return {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": depth(state, TOST.layers[0]),
        "num_attention_heads": state["transformer.h.0.attn.temp"].shape[0],
        "max_position_embeddings": state["transformer.wpe.weight"].shape[0],
        "mlp_ratio": hidden // width if hidden % width == 0 else hidden / width,
        "bias": any_match(state, r"transformer\.h\.\d+\.mlp\.c_fc\.bias"),
        "bos_token_id": special,
        "eos_token_id": special,
        "attention_inner_size": state["transformer.h.0.attn.c_attn.weight"].shape[0],
        **({} if dropout is None else {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}),
    }


def _our_shape(name: str, tensor: Tensor) -> Tensor:
    return tensor.squeeze(-1) if name.endswith("position_bias") else tensor


TOST = Layout(
    name="ToST for text",
    is_layout=lambda state: any_match(state, r"transformer\.h\.\d+\.attn\.(temp|denom_bias)"),
    layers=(r"transformer\.h\.(\d+)\.",),
    subspaces="attn.c_attn.weight",
    sizes_from={
        "transformer.wte.weight": 2,
        "transformer.wpe.weight": 2,
        "transformer.h.0.attn.temp": 2,
        "transformer.h.0.attn.c_attn.weight": 2,
        "transformer.h.0.mlp.c_fc.weight": 2,
    },
    names={
        r"transformer\.wte\.weight": "crate.embeddings.word_embeddings.weight",
        r"transformer\.wpe\.weight": "crate.embeddings.position_embeddings.weight",
        r"transformer\.h\.(\d+)\.ln_1\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        r"transformer\.h\.(\d+)\.attn\.c_attn\.(weight|bias)": r"crate.layers.\1.compression.attention.subspaces.\2",
        r"transformer\.h\.(\d+)\.attn\.c_proj\.(weight|bias)": r"crate.layers.\1.compression.attention.output.\2",
        r"transformer\.h\.(\d+)\.attn\.temp": r"crate.layers.\1.compression.attention.membership.temperature",
        r"transformer\.h\.(\d+)\.attn\.denom_bias": r"crate.layers.\1.compression.attention.membership.position_bias",
        r"transformer\.h\.(\d+)\.gamma1": r"crate.layers.\1.compression.increment.scale.factors",
        r"transformer\.h\.(\d+)\.ln_2\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        r"transformer\.h\.(\d+)\.mlp\.c_fc\.(weight|bias)": r"crate.layers.\1.sparsification.coding.\2",
        r"transformer\.h\.(\d+)\.mlp\.c_proj\.(weight|bias)": r"crate.layers.\1.sparsification.output.\2",
        r"transformer\.h\.(\d+)\.gamma2": r"crate.layers.\1.sparsification.increment.scale.factors",
        r"transformer\.ln_f\.(weight|bias)": r"crate.norm.\1",
        r"lm_head\.weight": "lm_head.decoder.weight",
    },
    config_class=TostConfig,
    fields=_fields,
    model_class=lambda state: TostForCausalLM,
    transform=_our_shape,
)

__all__ = ["TOST"]
