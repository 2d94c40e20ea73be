"""The layout of the public causal language model, nanoGPT with CRATE layers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...configuration import CrateConfig
from ...errors import UserError
from ...models import CrateForCausalLM
from .layout import Layout, StateDict
from .shapes import any_match, depth, require


def _language_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, LANGUAGE.sizes_from)
    vocab_size, width = state["transformer.wte.weight"].shape
    is_sparse = any_match(state, r"transformer\.h\.\d+\.ista\.weight")  # else attention alone (AoT)
    if is_sparse:
        require(state, {"transformer.h.0.ista.weight": 2})
    atoms = state["transformer.h.0.ista.weight"].shape[0] if is_sparse else width
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
        "num_hidden_layers": depth(state, LANGUAGE.layers[0]),
        "max_position_embeddings": state["transformer.wpe.weight"].shape[0],
        "dictionary_ratio": atoms // width,
        **({} if is_sparse else {"sparsification": "none"}),
        "final_layer_norm": any_match(state, r"transformer\.ln_f\..+"),
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


def _our_shape(name: str, tensor: Tensor) -> Tensor:
    over_complete = name.endswith("coding.dictionary") and tensor.ndim == 2 and tensor.shape[0] > tensor.shape[1]
    return tensor.mT.contiguous() if over_complete else tensor


LANGUAGE = Layout(
    name="causal language model",
    is_layout=lambda state: any_match(state, r"transformer\.h\.\d+\.(ista|prenorm_1)\.weight"),
    layers=(r"transformer\.h\.(\d+)\.",),
    subspaces="attn.c_attn.weight",
    sizes_from={
        "transformer.wte.weight": 2,
        "transformer.wpe.weight": 2,
        "transformer.h.0.attn.c_attn.weight": 2,
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
    fields=_language_fields,
    model_class=lambda state: CrateForCausalLM,
    # the over-complete weight is (m, d); our dictionary is (d, m) like the square one
    transform=_our_shape,
)

__all__ = ["LANGUAGE"]
