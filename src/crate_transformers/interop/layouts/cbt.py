"""The layout of the public CBT, with the attention that it is named for (CBSA) or one of two others in its shell."""

from collections.abc import Mapping
from typing import Any

from ...configuration import CrateVisionConfig
from ...errors import UserError
from ...models import CrateForImageClassification
from .layout import Layout, StateDict
from .shapes import any_match, depth, require, square_grid, stem_names

_LAYER = r"transformer\.layers\.(\d+)"
_ATTENTION = r"crate.layers.\1.compression.attention"


def _compression(state: StateDict, layer: int) -> str:
    before = f"transformer.layers.{layer}.0.fn."
    if any_match(state, before.replace(".", r"\.") + "(step_x|ss_x)"):
        return "cbsa"
    return "tssa" if f"{before}temp" in state else "mssa"


def _heads(state: StateDict) -> int | None:
    """As the steps of CBSA or the temperatures of TSSA have them; MSSA alone does not say."""
    name = next((name for name in state if name.endswith((".step_x", ".ss_x", ".temp"))), None)
    return None if name is None else _rows(state, name)


def _rows(state: StateDict, name: str) -> int:
    if state[name].ndim == 0:
        raise UserError(f"misshapen key {name!r}: it has no axes")
    return state[name].shape[0]


def _fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, CBT.sizes_from)
    stages = depth(state, r"to_patch_embedding\.proj\.(\d+)\.0\.")
    if stages not in (3, 4):
        raise UserError(f"the stem of a CBT has 3 or 4 convolutions (to_patch_embedding.proj), this one {stages}")
    layers = depth(state, CBT.layers[0])
    blocks = [_compression(state, layer) for layer in range(layers)]
    rows, columns = square_grid(state, "pos_embedding", extra)
    patch = 2**stages
    image = extra.get("image_size", rows * patch if rows == columns else (rows * patch, columns * patch))
    subspaces = next(name for name in state if name.endswith(("0.fn.proj.weight", "0.fn.qkv.weight")))
    return {
        "image_size": image,
        "patch_size": patch,
        "patch_embedding": "conv_stem",
        "interpolate_offset": 0.1,
        "num_channels": state["to_patch_embedding.proj.0.0.weight"].shape[1],
        "hidden_size": state["cls_token"].shape[-1],
        "num_hidden_layers": layers,
        "num_attention_heads": _heads(state),
        "compression": blocks[0] if len(set(blocks)) == 1 else blocks,
        "qkv_bias": any_match(state, _LAYER + r"\.0\.fn\.qkv\.bias"),
        "num_labels": state["mlp_head.1.weight"].shape[0],
        "attention_inner_size": _rows(state, subspaces),
    }


CBT = Layout(
    name="CBT",
    is_layout=lambda state: (
        any_match(state, r"to_patch_embedding\.proj\.\d+\.0\.weight") and any_match(state, _LAYER + r"\.0\.fn\..+")
    ),
    layers=(_LAYER + r"\.",),
    subspaces=".weight",
    sizes_from={
        "cls_token": 3,
        "pos_embedding": 3,
        "to_patch_embedding.proj.0.0.weight": 4,
        "mlp_head.1.weight": 2,
    },
    names={
        r"cls_token": "crate.embeddings.cls_token",
        r"pos_embedding": "crate.embeddings.position_embeddings",
        **stem_names("to_patch_embedding"),
        _LAYER + r"\.0\.norm\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        _LAYER + r"\.0\.fn\.proj\.weight": rf"{_ATTENTION}.subspaces.weight",
        _LAYER + r"\.0\.fn\.qkv\.(weight|bias)": rf"{_ATTENTION}.subspaces.\2",
        _LAYER + r"\.0\.fn\.temp": rf"{_ATTENTION}.membership.temperature",
        _LAYER + r"\.0\.fn\.step_x": rf"{_ATTENTION}.step_tokens",
        _LAYER + r"\.0\.fn\.ss_x": rf"{_ATTENTION}.step_tokens",  # the paper's listing
        _LAYER + r"\.0\.fn\.step_rep": rf"{_ATTENTION}.step_representatives",
        _LAYER + r"\.0\.fn\.ss_rep": rf"{_ATTENTION}.step_representatives",
        _LAYER + r"\.0\.fn\.to_out\.(weight|bias)": rf"{_ATTENTION}.output.\2",
        _LAYER + r"\.1\.norm\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        _LAYER + r"\.1\.fn\.weight": r"crate.layers.\1.sparsification.coding.dictionary",
        r"mlp_head\.0\.(weight|bias)": r"norm.\1",
        r"mlp_head\.1\.(weight|bias)": r"classifier.\1",
    },
    config_class=CrateVisionConfig,
    fields=_fields,
    model_class=lambda state: CrateForImageClassification,
    image_labels=True,
    assumes="the class token is read (pool), 8 x 8 representatives of the first tokens (representatives, "
    "representatives_from), eta = lambda = 0.1 (ista_step_size, ista_lambda)",
)

__all__ = ["CBT"]
