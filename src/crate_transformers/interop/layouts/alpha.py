"""The layouts of CRATE-alpha and of its ablations: the file of torch, and the tree of arrays that flax saves.

    D and D1               alpha, or its ablation "decoupled" where one says ista_residual=False: their keys are equal
    D alone, (d, 4d)       its ablation "tied"
    D alone, (d, d)        its ablation "square"

The two forms of one model differ in the epsilon of the last LayerNorm: 1e-5 in torch, 1e-6 in flax.

Source: arXiv 2405.20299.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...configuration import CrateVisionConfig
from ...configuration.sizes import ALPHA_FIELDS
from ...errors import UserError
from ...models import CrateForImageClassification
from .layout import Layout, StateDict
from .shapes import any_match, depth, require, square_grid

_ASSUMES = (
    "with D1, the dictionary step has a residual (ista_residual=false: the ablation without); eta = lambda = 0.1 "
    "(ista_step_size, ista_lambda)"
)
_ABLATIONS: dict[str, Any] = {"ista_residual": False}


def _dictionary_fields(dictionary: Tensor, is_decoupled: bool) -> dict[str, Any]:
    width, atoms = dictionary.shape
    if atoms % width:
        raise UserError(f"the {atoms} atoms of D are no multiple of the width {width}")
    if is_decoupled:
        return {"dictionary_ratio": atoms // width}
    square = {"ista_steps": 1} if atoms == width else {}
    return {"dictionary_ratio": atoms // width, "tie_dictionary": True, **square, **_ABLATIONS}


def _image_fields(state: StateDict, patch: tuple[int, int], extra: Mapping[str, Any]) -> dict[str, Any]:
    rows, columns = square_grid(state, "pos_embedding", extra)
    image = extra.get("image_size", (rows * patch[0], columns * patch[1]))
    return {
        "image_size": image[0] if isinstance(image, tuple | list) and image[0] == image[1] else image,
        "patch_size": patch[0] if patch[0] == patch[1] else patch,
    }


def _torch_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, ALPHA.sizes_from)
    width, channels, *patch = state["conv1.weight"].shape
    return {
        **ALPHA_FIELDS,
        **_image_fields(state, (patch[0], patch[1]), extra),
        **_dictionary_fields(
            state["transformer.layers.0.1.fn.D"], any_match(state, r"transformer\.layers\.\d+\.1\.fn\.D1")
        ),
        "num_channels": channels,
        "hidden_size": width,
        "num_hidden_layers": depth(state, ALPHA.layers[0]),
        "num_labels": state["mlp_head.1.weight"].shape[0],
        "attention_output_projection": any(".fn.to_out." in name for name in state),
        "attention_inner_size": state["transformer.layers.0.0.fn.qkv.weight"].shape[0],
    }


_BLOCK = r"Transformer/encoderblock_(\d+)"
_ATTENTION = r"/MultiHeadDotProductSubspaceAttention_0"
_CODINGS = ("/ISTABlock_0", "/OvercompleteISTABlock_0")  # messages name the last


def _flax_fields(state: StateDict, extra: Mapping[str, Any]) -> dict[str, Any]:
    require(state, ALPHA_FLAX.sizes_from)
    height, width, channels, hidden_size = state["embedding/kernel"].shape
    _, heads, head_dim = state[f"Transformer/encoderblock_0{_ATTENTION}/proj/kernel"].shape
    dictionary = next((tensor for name, tensor in state.items() if name.endswith("/D")), None)
    if dictionary is None:
        raise UserError(
            "missing in the checkpoint: the dictionaries Transformer/encoderblock_0/OvercompleteISTABlock_0/D"
        )
    return {
        **ALPHA_FIELDS,
        "layer_norm_eps": 1e-6,
        **_image_fields(state, (height, width), extra),
        **_dictionary_fields(dictionary, any(name.endswith("/D1") for name in state)),
        "num_channels": channels,
        "hidden_size": hidden_size,
        "num_hidden_layers": depth(state, ALPHA_FLAX.layers[0]),
        "num_attention_heads": heads,
        "num_labels": state["head/kernel"].shape[1],
        "attention_output": "learned",
        "attention_inner_size": heads * head_dim,
    }


def _flax_shape(name: str, tensor: Tensor) -> Tensor:
    """Kernels of flax are (in, out), of heads (in, K, p) or (K, p, out), of convolutions (rows, columns, in, out)."""
    if name.endswith("patch_embeddings.projection.weight"):
        return tensor.permute(3, 2, 0, 1).contiguous()
    if name.endswith("subspaces.weight"):
        return tensor.flatten(1).mT.contiguous()
    if name.endswith("attention.output.weight"):
        return tensor.flatten(0, 1).mT.contiguous()
    return tensor.mT.contiguous() if name == "classifier.weight" else tensor


_TRANSFORMER = r"transformer\.layers\.(\d+)"
ALPHA = Layout(
    name="CRATE-alpha",
    is_layout=lambda state: "conv1.weight" in state and any_match(state, _TRANSFORMER + r"\.1\.fn\.D"),
    layers=(_TRANSFORMER + r"\.",),
    subspaces="fn.qkv.weight",
    sizes_from={
        "cls_token": 3,
        "pos_embedding": 3,
        "conv1.weight": 4,
        "transformer.layers.0.0.fn.qkv.weight": 2,
        "transformer.layers.0.1.fn.D": 2,
        "mlp_head.1.weight": 2,
    },
    names={
        r"cls_token": "crate.embeddings.cls_token",
        r"pos_embedding": "crate.embeddings.position_embeddings",
        r"conv1\.(weight|bias)": r"crate.embeddings.patch_embeddings.projection.\1",
        _TRANSFORMER + r"\.0\.norm\.(weight|bias)": r"crate.layers.\1.compression.norm.\2",
        _TRANSFORMER + r"\.0\.fn\.qkv\.weight": r"crate.layers.\1.compression.attention.subspaces.weight",
        _TRANSFORMER + r"\.0\.fn\.to_out\.0\.weight": r"crate.layers.\1.compression.attention.output.weight",
        _TRANSFORMER + r"\.1\.norm\.(weight|bias)": r"crate.layers.\1.sparsification.norm.\2",
        _TRANSFORMER + r"\.1\.fn\.D": r"crate.layers.\1.sparsification.coding.dictionary",
        _TRANSFORMER + r"\.1\.fn\.D1": r"crate.layers.\1.sparsification.decoder_dictionary",
        r"mlp_head\.0\.(weight|bias)": r"norm.\1",
        r"mlp_head\.1\.(weight|bias)": r"classifier.\1",
    },
    config_class=CrateVisionConfig,
    fields=_torch_fields,
    model_class=lambda state: CrateForImageClassification,
    image_labels=True,
    assumes=_ASSUMES,
    sizes="alpha",
)
ALPHA_FLAX = Layout(
    name="CRATE-alpha of flax",
    is_layout=lambda state: any_match(state, _BLOCK + _ATTENTION + r"/proj/kernel") and "embedding/kernel" in state,
    layers=(_BLOCK + "/",),
    subspaces="proj/kernel",
    sizes_from={
        "cls": 3,
        "pos_embedding": 3,
        "embedding/kernel": 4,
        f"Transformer/encoderblock_0{_ATTENTION}/proj/kernel": 3,
        "head/kernel": 2,
    },
    names={
        r"cls": "crate.embeddings.cls_token",
        r"pos_embedding": "crate.embeddings.position_embeddings",
        r"embedding/kernel": "crate.embeddings.patch_embeddings.projection.weight",
        r"embedding/bias": "crate.embeddings.patch_embeddings.projection.bias",
        _BLOCK + r"/LayerNorm_0/scale": r"crate.layers.\1.compression.norm.weight",
        _BLOCK + r"/LayerNorm_0/bias": r"crate.layers.\1.compression.norm.bias",
        _BLOCK + _ATTENTION + r"/proj/kernel": r"crate.layers.\1.compression.attention.subspaces.weight",
        _BLOCK + _ATTENTION + r"/out/kernel": r"crate.layers.\1.compression.attention.output.weight",
        _BLOCK + r"/LayerNorm_1/scale": r"crate.layers.\1.sparsification.norm.weight",
        _BLOCK + r"/LayerNorm_1/bias": r"crate.layers.\1.sparsification.norm.bias",
        **{_BLOCK + coding + r"/D": r"crate.layers.\1.sparsification.coding.dictionary" for coding in _CODINGS},
        **{_BLOCK + coding + r"/D1": r"crate.layers.\1.sparsification.decoder_dictionary" for coding in _CODINGS},
        r"encoder_norm/scale": "norm.weight",
        r"encoder_norm/bias": "norm.bias",
        r"head/kernel": "classifier.weight",
        r"head/bias": "classifier.bias",
    },
    config_class=CrateVisionConfig,
    fields=_flax_fields,
    model_class=lambda state: CrateForImageClassification,
    transform=_flax_shape,
    image_labels=True,
    assumes=_ASSUMES,
)

__all__ = ["ALPHA", "ALPHA_FLAX"]
