"""Where tokens look, what they have of the compression, what their features have in common."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...analysis import Run, compression_shares
from ...analysis.architectures import architecture_of, backbone_of
from ...analysis.features import PatchFeatures, joint_pca
from ...analysis.segmentation import attention_masks
from ...analysis.text import token_texts
from ...errors import UserError
from ..answers import Answer, shown
from ..looking import MAX_MAP_TOKENS, Looking
from ..state import State


def tokens(look: Looking, state: State) -> Answer:
    """The tokens of a text as it is cut, or the picture as the models see it and its grid of patches."""
    subject = look.subject(state, "model")
    if not subject.reads_images:
        ids = subject.ids(state.text)[0].tolist()
        return Answer({"ids": ids, "texts": token_texts(subject.tokenizer, ids)})
    pixels = look.inputs(subject, state).cpu()
    return Answer(
        {
            "grid": list(look.grid(subject, state)),
            "prefix": architecture_of(backbone_of(subject.model)).prefix_tokens,
        },
        {"picture": shown(subject, pixels)},
    )


def maps(look: Looking, state: State) -> Answer:
    """Attention of `state.token` over all tokens, every layer and head (L, K, N): rows of `analysis.trace`'s
    attention; of tssa the memberships of all tokens."""
    found: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for which in look.both(state):
        run = look.run(state, which)
        rows = [_attention_row(layer, look.token(state, which)) for layer in run.trace.layers]
        made = [row for row in rows if row is not None]
        if not made:
            found[which] = {"left_out": _why_no_maps(look, state, which, run)}
            continue
        shape = made[0]
        full = [torch.zeros_like(shape) if row is None else row for row in rows]
        arrays[which] = torch.stack(full).numpy()
        is_membership = run.trace.layers[0].memberships is not None
        found[which] = {
            "of": "memberships" if is_membership else "attention",
            "layers": [index for index, row in enumerate(rows) if row is not None],
            "prefix": run.trace.prefix,
            "grid": run.trace.grid,
        }
    return Answer(found, arrays)


def shares(look: Looking, state: State) -> Answer:
    """`analysis.compression_shares` (L, K, N) nats: what each token has of the change of R^c_k in each layer."""
    found: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for which in look.both(state):
        backbone = backbone_of(look.subject(state, which).model)
        architecture = architecture_of(backbone)
        heads = getattr(backbone.config, architecture.heads_field)
        parts = []
        for module, layer in zip(architecture.layers(backbone), look.run(state, which).trace.layers, strict=True):
            weight = architecture.subspaces(module)
            if weight is None or layer.memberships is not None:
                parts.append(torch.zeros(heads, layer.get("half_tokens").shape[1]))
                continue
            with torch.no_grad():
                tokens = layer.get("tokens_in"), layer.get("half_tokens")
                parts.append(compression_shares(*tokens, weight, heads)[0].float().cpu())
        arrays[which] = torch.stack(parts).numpy()
        found[which] = {"heads": heads}
    return Answer(found, arrays)


def features(look: Looking, state: State) -> Answer:
    """`analysis.joint_pca` of the subspace features of a layer (and a head), and `attention_masks` of the token."""
    found: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for which in look.both(state):
        run = look.run(state, which)
        if run.trace.grid is None:
            continue
        layer = run.trace.layers[min(state.layer, len(run.trace.layers) - 1)]
        if layer.projections is not None:
            own = layer.projections[:, :, run.trace.prefix :].float().cpu()  # (1, K, P, p)
            heads = range(own.shape[1]) if state.head is None else [min(state.head, own.shape[1] - 1)]
            chosen = own[:, list(heads)].transpose(1, 2).flatten(2)
            components = joint_pca(PatchFeatures(chosen, run.trace.grid, state.layer))
            arrays[f"{which}/colors"] = (components.colors[0].numpy() * 255).round().astype(np.uint8)
            arrays[f"{which}/foreground"] = components.foreground[0].numpy().astype(np.uint8)
            found[which] = {"explained": list(components.explained), "grid": run.trace.grid}
        row = _attention_row(layer, look.token(state, which))
        if row is not None and layer.memberships is None:
            maps = row[:, run.trace.prefix :].unflatten(-1, run.trace.grid)
            arrays[f"{which}/masks"] = attention_masks(maps).numpy().astype(np.uint8)
    return Answer(found, arrays)


def _why_no_maps(look: Looking, state: State, which: str, run: Run) -> str:
    name = look.subject(state, which).name
    if run.trace.grid is not None and run.trace.grid[0] * run.trace.grid[1] > MAX_MAP_TOKENS:
        count = run.trace.grid[0] * run.trace.grid[1]
        return f"attention of {name}: {count:,} patches are more than the {MAX_MAP_TOKENS:,} whose maps are kept"
    return f"attention of {name}: no layer mixes its tokens by such a map"


def _attention_row(layer: Any, token: int) -> Tensor | None:
    """(K, N) of a layer: attention of one token, or all memberships; None where there is neither.

    Raises:
        UserError: a token that does not exist.
    """
    if layer.memberships is not None:
        return layer.memberships[0].mT.float().cpu()
    if layer.attention is None:
        return None
    if token >= layer.attention.shape[2]:
        raise UserError(f"there is no token {token}: there are {layer.attention.shape[2]}, from 0")
    return layer.attention[0, :, token].float().cpu()


__all__ = ["features", "maps", "shares", "tokens"]
