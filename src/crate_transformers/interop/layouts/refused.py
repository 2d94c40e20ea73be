"""Public checkpoints near to ours that no model of the library is: recognised, and refused by name."""

from collections.abc import Callable

from .layout import StateDict
from .shapes import any_match


def _is_threefold(state: StateDict, name: str) -> bool:
    """Whether a projection makes queries, keys and values: (3 d, d)."""
    return name in state and state[name].ndim == 2 and state[name].shape[0] == 3 * state[name].shape[1]


_REFUSED: dict[str, Callable[[StateDict], bool]] = {
    "CRATE-alpha trained with text (CLIP): two towers, of which no model of this library is made": lambda state: (
        any_match(state, r"visual\.(transformer\.resblocks|conv1|mlp_head|transformer\.layers)\..+")
        or any(name.startswith(("img/", "txt/")) for name in state)
    ),
    "a segmentation decoder (CBT or DEPICT) on a pretrained ViT, which this library does not have": lambda state: any(
        name.removeprefix("decoder.").startswith(("cls_emb", "net.layers.", "snet.", "cnet.")) for name in state
    ),
    "an XCiT, a baseline of ToST's repository: load it with timm": lambda state: any_match(
        state, r"blocks\.\d+\.attn\.temperature"
    ),
    "a ViT in timm's layout (a baseline of ToST's repository, or a ViT whose attention CBSA replaces, which has the "
    "same keys): load it with timm": lambda state: _is_threefold(state, "blocks.0.attn.qkv.weight"),
    "a softmax baseline of ToST's language repository (TSSA false), GPT-2 with LayerScale: no model of this "
    "library": lambda state: (
        _is_threefold(state, "transformer.h.0.attn.c_attn.weight") and "transformer.h.0.gamma1" in state
    ),
}


def reason_to_refuse(state: StateDict) -> str | None:
    """What a checkpoint is, where it is one of those; else None."""
    return next((told for told, is_one in _REFUSED.items() if is_one(state)), None)


__all__ = ["reason_to_refuse"]
