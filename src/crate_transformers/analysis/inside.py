"""What every layer makes of a few samples, in few bits, to be looked into on a page: attention from every token, codes.

A page stays small: of many samples, large pictures or deep models it holds the whole for some, and says which.

Shapes: B samples, L layers, K heads, N tokens, m entries of a code.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from ..report.viewer import InLayer, Looked, View, few_bits_of_codes, few_bits_of_weights
from .architectures import unwrap
from .tracing import LayerTrace, Trace, eager_attention, trace

MOST_BYTES = 3_000_000  # of attention and codes in a page, as they lie in memory


def held_layers(costs: Sequence[int], num_samples: int, start: int, most: int) -> list[set[int]]:
    """Which layers of each sample are held whole: all of the first samples, else those next to `start` of the first.

    Args:
        costs: bytes of each layer. most: bytes of all.

    Example:
        >>> held_layers([40, 40, 40], 3, 1, 250)
        [{0, 1, 2}, {0, 1, 2}, set()]
        >>> held_layers([40, 40, 40], 2, 2, 100)
        [{1, 2}, set()]
    """
    whole = min(num_samples, most // max(sum(costs), 1))
    if whole:
        return [set(range(len(costs))) if sample < whole else set() for sample in range(num_samples)]
    first: set[int] = set()
    for layer in sorted(range(len(costs)), key=lambda layer: (abs(layer - start), layer)):
        if sum(costs[i] for i in (*first, layer)) <= most:
            first.add(layer)
    return [first, *(set() for _ in range(num_samples - 1))]


def look_inside(
    model: nn.Module,
    inputs: Tensor,
    samples: Sequence[Looked],
    start: int,
    most: int = MOST_BYTES,
) -> View | None:
    """Attention from every token and the codes of every layer, sample by sample; None where layers make neither map.

    Args:
        model: one that `trace_batches` takes. inputs: images (B, C, H, W), or token ids (B, N) without padding.
        samples: what to call and show, one an input, without layers. start: the layer, from 0, that is shown at first.
        most: bytes that are held of attention and codes.

    Example:
        >>> import torch
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> picture = Looked("noise", picture=np.zeros((32, 32, 3), dtype=np.uint8))
        >>> view = look_inside(model, torch.rand(1, 3, 32, 32), [picture], start=10)
        >>> view.samples[0].layers[10].weights.shape, view.grid  # from each of 17 tokens to each
        ((6, 17, 17), (4, 4))
    """
    looked: list[Looked] = []
    held: list[set[int]] = []
    with eager_attention(unwrap(model), is_told=False):
        for number, sample in enumerate(samples):
            record = trace(model, inputs[number : number + 1], ("attention", "memberships", "codes"))
            if any(layer.attention is None and layer.memberships is None for layer in record.layers):
                return None
            if not held:
                held = held_layers([_bytes_of(layer) for layer in record.layers], len(samples), start, most)
            kept = _kept(record)
            layers = [_in_layer(layer, kept, i in held[number]) for i, layer in enumerate(record.layers)]
            looked.append(replace(sample, layers=tuple(layers)))
    num_tokens = looked[0].layers[0].weights.shape[-1]
    is_membership = record.layers[0].attention is None
    return View(
        samples=tuple(looked),
        layers=tuple(range(len(record.layers))),
        start=start,
        heads=looked[0].layers[0].weights.shape[0],
        grid=record.grid or (1, num_tokens),
        prefix=record.prefix if record.grid else 0,
        kept=_kept(record),
        is_membership=is_membership,
        notes=_notes(held, len(record.layers), is_membership, "picture" if record.grid else "text"),
    )


def _kept(record: Trace) -> int:
    """The token whose weights are held in any case: the class token of a picture, the last of a text."""
    return 0 if record.grid else next(iter(record.inputs.values())).shape[1] - 1


def _bytes_of(layer: LayerTrace) -> int:
    codes = 0 if layer.codes is None else layer.codes.shape[1] * layer.codes.shape[2]
    if layer.attention is None:
        return codes
    return layer.attention.shape[1] * layer.attention.shape[2] * layer.attention.shape[3] + codes


def _in_layer(layer: LayerTrace, kept: int, is_whole: bool) -> InLayer:
    if layer.attention is None:  # memberships (1, N, K)
        maps = layer.get("memberships")[0].mT[:, None]  # (K, 1, N)
    else:
        maps = layer.get("attention")[0]  # (K, N, N)
        maps = maps if is_whole else maps[:, kept : kept + 1]
    weights, tops = few_bits_of_weights(maps.float().cpu().numpy())
    if layer.codes is None:
        return InLayer(weights, tops, np.zeros(0, dtype=np.uint32))
    codes = layer.get("codes")[0].float().cpu().numpy()  # (N, m)
    few, top = few_bits_of_codes(codes) if is_whole else (None, 0.0)
    return InLayer(weights, tops, (codes != 0).sum(axis=-1), codes.shape[1], few, top)


def _notes(held: Sequence[set[int]], num_layers: int, is_membership: bool, kind: str) -> list[str]:
    whole = sum(len(layers) == num_layers for layers in held)
    what = "The codes" if is_membership else "Attention from every patch or token, and the codes,"
    if whole == len(held):
        return []
    if whole:
        return [f"{what} are held for the first {whole} of {len(held)} {kind}s, which keeps this file small."]
    if held[0]:
        layers = ", ".join(map(str, sorted(held[0])))
        return [
            f"{what} are held for the first {kind} in layers {layers} of {num_layers}, which keeps this file small."
        ]
    return [f"{what} are not held: they are too large for one file. `analysis.trace` gives them."]


__all__ = ["MOST_BYTES", "held_layers", "look_inside"]
