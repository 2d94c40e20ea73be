"""The attention implementation `mssa`: the library's own kernels, with a fallback to torch's operators.

`model.set_attn_implementation("mssa")` picks it, and on a machine without a GPU it is the default. Attention with one
tensor as query, key and value runs where it can: no mask (causal or not), no dropout, heads of at most 128; on a GPU
(triton_mssa.py), or in float32 on a CPU with a C++ compiler (native/mssa.cpp). What follows the last product of an ISTA
step in half precision, or of one with few tokens, takes one pass on a GPU (triton_ista.py). Everything else goes to
torch's operators and gives the same numbers.

Shapes: B batch, K heads, N tokens, p head_dim, d hidden_size.
"""

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ..native.mssa import can_mix, mssa

_MOST_FEATURES = 128
_HAS_TRITON = find_spec("triton") is not None


def _runs_here(tensor: Tensor) -> bool:
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    here = tensor.is_cuda or (interpreted and tensor.device.type == "cpu")
    return _HAS_TRITON and here and tensor.dtype != torch.float64  # the kernels sum in float32


def mssa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """MSSA in the signature of transformers' attention interface.

    Args:
        query, key, value: (B, K, N, p); the kernel runs when they are one and the same tensor.
        attention_mask, dropout, scaling, is_causal: as for sdpa.

    Returns:
        mixed tokens (B, N, K, p), and None: the attention is never written out.
    """
    one_tensor = query is key and key is value and query.shape[-1] <= _MOST_FEATURES
    if one_tensor and attention_mask is None and not dropout and query.numel():
        causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if _runs_here(query):
            from .triton_mssa import SubspaceFlashAttention

            return SubspaceFlashAttention.apply(query, scale, causal), None
        if can_mix(query):
            return mssa(query, scale, causal)[0], None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
    )


def shrink(moved: Tensor, threshold: float) -> Tensor:
    """The proximal step relu(moved - threshold), written over `moved`."""
    return nn.functional.relu(moved.sub_(threshold), inplace=True)


def shrink_sum(
    config: PreTrainedConfig, x: Tensor, left: Tensor, right: Tensor, step_size: float, threshold: float
) -> Tensor:
    """The end of an ISTA step: relu(x + eta L R - eta lambda).

    Args:
        config: its attention implementation says whose operators run.
        x, left: (n, d). right: (d, d). step_size: eta. threshold: eta lambda.

    Returns:
        (n, d), >= 0.
    """
    if config._attn_implementation == "mssa" and x.numel() and _runs_here(x):
        from .triton_ista import ShrinkSum

        return ShrinkSum.apply(x, left @ right, step_size, threshold)
    return shrink(torch.addmm(x, left, right, alpha=step_size), threshold)


AttentionInterface.register("mssa", mssa_attention)
AttentionMaskInterface.register("mssa", sdpa_mask)

__all__ = ["mssa_attention", "shrink", "shrink_sum"]
