"""The layout of the public vision classifier."""

import math
from collections.abc import Mapping
from typing import Any

from ...configuration import CrateVisionConfig
from ...configuration.validation import as_pair
from ...errors import UserError
from ...models import CrateForImageClassification
from .layout import Layout, StateDict
from .shapes import any_match, depth, given_pixels, require, square_grid


def _patch_fields(state: StateDict, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """image_size, patch_size, num_channels from what a flattened patch and the position table hold."""
    patch_dim = state["to_patch_embedding.2.weight"].shape[1]
    channels = overrides.get("num_channels")
    if channels is not None and channels < 1:
        raise UserError(f"num_channels must be positive, got {channels}")
    if "patch_size" in overrides:
        height, width = given_pixels("patch_size", overrides["patch_size"])
        if patch_dim % (height * width):
            raise UserError(
                f"a patch of {patch_dim} values (to_patch_embedding.2.weight) is not {height} x {width} pixels of "
                "whole channels: pass another patch_size"
            )
        channels = channels or patch_dim // (height * width)
        patch: int | list[int] | tuple[int, int] = overrides["patch_size"]
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
    rows, columns = square_grid(state, "pos_embedding", overrides)
    height, width = as_pair(patch)
    image = overrides.get("image_size", (rows * height, columns * width))
    image = image[0] if isinstance(image, tuple | list) and image[0] == image[1] else image
    return {"image_size": image, "patch_size": patch, "num_channels": channels}


def _vision_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, VISION.sizes_from)
    fields = _patch_fields(state, extra)
    return {
        **fields,
        "hidden_size": state["cls_token"].shape[-1],
        "num_hidden_layers": depth(state, VISION.layers[0]),
        "num_labels": state["mlp_head.1.weight"].shape[0],
        "attention_output_projection": any(".fn.to_out." in name for name in state),
        "attention_inner_size": state["transformer.layers.0.0.fn.qkv.weight"].shape[0],
        **_attention_only(state),
    }


def _attention_only(state: StateDict) -> dict[str, Any]:
    """The fields of an attention-only transformer (AoT), which has no sparsification, and norms or none."""
    if any_match(state, r"transformer\.layers\.\d+\.1\..+"):
        return {}
    has_norms = any_match(state, r"transformer\.layers\.\d+\.0\.norm\.weight")
    return {"sparsification": "none", "compression_norm": has_norms}


VISION = Layout(
    name="vision classifier",
    is_layout=lambda state: any_match(state, r"transformer\.layers\.\d+\.(0\.fn\.qkv|1\.fn)\.weight"),
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
    image_labels=True,
)

__all__ = ["VISION"]
