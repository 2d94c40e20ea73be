"""The layout of the public masked autoencoder, of the whole or of its encoder alone."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedConfig

from ...configuration import CrateMAEConfig
from ...errors import UserError
from ...layers import sincos_positions
from ...models import CrateMAEForPreTraining, CrateMAEModel
from .layout import Layout, StateDict
from .shapes import any_match, depth, require, square_grid


def _autoencoder_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, AUTOENCODER.sizes_from)
    width, channels, height, patch_width = state["patch_embed.proj.weight"].shape
    rows, columns = square_grid(state, "decoder_pos_embed", extra)
    image = rows * height, columns * patch_width
    fields = {
        "image_size": extra.get("image_size", image[0] if image[0] == image[1] else image),
        "patch_size": height if height == patch_width else (height, patch_width),
        "num_channels": channels,
        "hidden_size": width,
        "num_hidden_layers": depth(state, AUTOENCODER.layers[0]),
        "attention_output_projection": any(".fn.to_out." in name for name in state),
        "attention_inner_size": state["blocks.0.layers.0.0.fn.qkv.weight"].shape[0],
    }
    decoder_depth = depth(state, AUTOENCODER.layers[1])
    return {**fields, "decoder_num_hidden_layers": decoder_depth} if decoder_depth else fields


def _check_positions(state: StateDict, config: PreTrainedConfig) -> None:
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


AUTOENCODER = Layout(
    name="masked autoencoder",
    is_layout=lambda state: any_match(state, r"blocks\.\d+\.layers\.0\.(0\.fn\.qkv|1\.fn)\.weight"),
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
    fields=_autoencoder_fields,
    model_class=lambda state: (
        CrateMAEForPreTraining if any(name.startswith("decoder_blocks.") for name in state) else CrateMAEModel
    ),
    check=_check_positions,
)

__all__ = ["AUTOENCODER"]
