"""The layout of the public text encoder, RoBERTa with CRATE layers, with any of its heads or none."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from ...configuration import CrateConfig
from ...models import (
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateModel,
)
from ...models.modeling_crate import PUBLIC_ENCODER_KEYS
from .layout import Layout, StateDict
from .shapes import any_match, depth, require


def _encoder_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    base = "crate." if any(name.startswith("crate.") for name in state) else ""
    require(state, {name.replace("crate.", base): axes for name, axes in ENCODER.sizes_from.items()})
    vocab_size, width = state[f"{base}embeddings.word_embeddings.weight"].shape
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": depth(state, ENCODER.layers[0]),
        "max_position_embeddings": state[f"{base}embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": state[f"{base}embeddings.token_type_embeddings.weight"].shape[0],
        "attention_inner_size": state[f"{base}encoder.layer.0.attention.self.qkv.weight"].shape[0],
    }
    if _encoder_class(state) is CrateForSequenceClassification:
        require(state, {"classifier.out_proj.weight": 2})
    for head in ("classifier.out_proj.weight", "classifier.weight"):
        if head in state:
            require(state, {head: 2})
        if head in state and not (head == "classifier.weight" and state[head].shape[0] == 1):
            fields["num_labels"] = state[head].shape[0]
    return fields


def _encoder_class(state: StateDict) -> type[PreTrainedModel]:
    if any_match(state, r"lm_head\..+"):
        return CrateForMaskedLM
    if any_match(state, r"classifier\.(dense|out_proj)\..+"):
        return CrateForSequenceClassification
    if any_match(state, r"qa_outputs\..+"):
        return CrateForQuestionAnswering
    if "classifier.weight" in state:
        has_pooler = any("pooler." in name for name in state)
        return CrateForMultipleChoice if has_pooler else CrateForTokenClassification
    return CrateModel


ENCODER = Layout(
    name="text encoder",
    is_layout=lambda state: any_match(state, r"(crate\.)?encoder\.layer\.\d+\.attention\.self\.(qkv|prenorm)\..+"),
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

__all__ = ["ENCODER"]
