"""The layout of the public ToST for images."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...configuration import TostVisionConfig
from ...errors import UserError
from ...models import TostForImageClassification
from .layout import Layout, StateDict
from .shapes import any_match, depth, require, stem_names

_NORMS = r"\.(weight|bias)"


def _fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, TOST_VISION.sizes_from)
    width = state["cls_token"].shape[-1]
    stages = depth(state, r"patch_embed\.proj\.(\d+)\.0\.")
    if stages not in (3, 4):
        raise UserError(f"the stem of a ToST has 3 or 4 convolutions (patch_embed.proj), this one {stages}")
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    return {
        "image_size": extra.get("image_size", 224),  # of the image processor: the model takes any
        "patch_size": 2**stages,
        "num_channels": state["patch_embed.proj.0.0.weight"].shape[1],
        "hidden_size": width,
        "num_hidden_layers": depth(state, TOST_VISION.layers[0]),
        "num_class_attention_layers": depth(state, TOST_VISION.layers[1]),
        "num_attention_heads": state["blocks.0.attn.temp"].shape[0],
        "mlp_ratio": hidden // width if hidden % width == 0 else hidden / width,
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "num_labels": state["head.weight"].shape[0],
        "layer_scale": 1.0,
        "attention_inner_size": state["blocks.0.attn.qkv.weight"].shape[0],
    }


def _our_shape(name: str, tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if name.endswith("position_projection.weight") else tensor  # a 1 x 1 convolution


TOST_VISION = Layout(
    name="ToST for images",
    is_layout=lambda state: any_match(state, r"blocks\.\d+\.attn\.temp"),
    layers=(r"blocks\.(\d+)\.", r"cls_attn_blocks\.(\d+)\."),
    subspaces="attn.qkv.weight",
    sizes_from={
        "cls_token": 3,
        "patch_embed.proj.0.0.weight": 4,
        "blocks.0.attn.temp": 2,
        "blocks.0.attn.qkv.weight": 2,
        "blocks.0.mlp.fc1.weight": 2,
        "head.weight": 2,
    },
    names={
        r"cls_token": "crate.cls_token",
        **stem_names("patch_embed"),
        r"pos_embeder\.token_projection" + _NORMS: r"crate.embeddings.position_projection.\1",
        r"blocks\.(\d+)\.norm1\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)": r"crate.layers.\1.compression.attention.subspaces.\2",
        r"blocks\.(\d+)\.attn\.temp": r"crate.layers.\1.compression.attention.membership.temperature",
        r"blocks\.(\d+)\.attn\.to_out\.0\.(weight|bias)": r"crate.layers.\1.compression.attention.output.\2",
        r"blocks\.(\d+)\.gamma1": r"crate.layers.\1.compression.increment.scale.factors",
        r"blocks\.(\d+)\.norm2\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)": r"crate.layers.\1.sparsification.coding.\2",
        r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)": r"crate.layers.\1.sparsification.output.\2",
        r"blocks\.(\d+)\.gamma2": r"crate.layers.\1.sparsification.increment.scale.factors",
        r"cls_attn_blocks\.(\d+)\.norm1\.(weight|bias)": r"crate.class_layers.\1.attention_norm.\2",
        r"cls_attn_blocks\.(\d+)\.attn\.qkv\.(weight|bias)": r"crate.class_layers.\1.attention.projection.\2",
        r"cls_attn_blocks\.(\d+)\.attn\.proj\.(weight|bias)": r"crate.class_layers.\1.attention.output.\2",
        r"cls_attn_blocks\.(\d+)\.gamma1": r"crate.class_layers.\1.attention_scale.factors",
        r"cls_attn_blocks\.(\d+)\.norm2\.(weight|bias)": r"crate.class_layers.\1.mlp_norm.\2",
        r"cls_attn_blocks\.(\d+)\.mlp\.fc1\.(weight|bias)": r"crate.class_layers.\1.mlp.0.\2",
        r"cls_attn_blocks\.(\d+)\.mlp\.fc2\.(weight|bias)": r"crate.class_layers.\1.mlp.1.\2",
        r"cls_attn_blocks\.(\d+)\.gamma2": r"crate.class_layers.\1.mlp_scale.factors",
        r"norm\.(weight|bias)": r"crate.norm.\1",
        r"head\.(weight|bias)": r"classifier.\1",
    },
    config_class=TostVisionConfig,
    fields=_fields,
    model_class=lambda state: TostForImageClassification,
    transform=_our_shape,
    image_labels=True,
    assumes="class attention norms all tokens (normalize_all_tokens), positions are added (position_embedding), "
    "images of 224 pixels (image_size, for the image processor)",
)

__all__ = ["TOST_VISION"]
