"""Which attention runs under which name, and the kernels behind `mssa`.

    sdpa (the default)   on a CPU (but in float64), with one tensor as query, key and value: the library's operator
                         (native/mssa.cpp). Everything else: torch's scaled_dot_product_attention.
    mssa                 besides, on a GPU: the library's kernels. Attention (triton_mssa.py), and what follows the last
                         product of an ISTA step in half precision, or of one with few tokens (triton_ista.py).
    torch_sdpa           torch's scaled_dot_product_attention alone.

The library's attention takes no mask (causal or not), no dropout, and on a GPU heads of at most 128; what it does not
take goes to torch's and gives the same numbers. `model.set_attn_implementation(name)` picks one of them, or any other
that transformers knows.

Shapes: B batch, K heads, N tokens, p head_dim, d hidden_size.
"""

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from ..native.attention_gradient import FusedAttention, can_fuse
from ..native.mssa import can_mix, mssa
from ..upstream import sdpa_attention_forward, sdpa_mask
from .linear import add_product

_MOST_FEATURES = 128
_HAS_TRITON = find_spec("triton") is not None


def _runs_here(tensor: Tensor) -> bool:
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    here = tensor.is_cuda or (interpreted and tensor.device.type == "cpu")
    return _HAS_TRITON and here and tensor.dtype != torch.float64  # the kernels sum in float32


def sdpa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    *,
    kernels: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Fused attention in the signature of transformers' attention interface.

    Args:
        query, key, value: (B, K, N, p); the library's attention runs when they are one and the same tensor.
        attention_mask, dropout, and by name scaling, is_causal: as for torch's.
        kernels: on a GPU Triton's kernel, for heads of at most 128.

    Returns:
        mixed tokens (B, N, K, p), and None: the attention is never written out.
    """
    if query is key and key is value and attention_mask is None and not dropout and query.numel() > 0:
        if kernels and query.shape[-1] <= _MOST_FEATURES and _runs_here(query):
            from .triton_mssa import SubspaceFlashAttention

            return SubspaceFlashAttention.apply(query, *_scaling_and_causal(module, query, **kwargs)), None
        if can_mix(query):
            return mssa(query, *_scaling_and_causal(module, query, **kwargs))[0], None
    scaling, causal = _scaling_and_causal(module, query, **kwargs)
    causal = causal and attention_mask is None and query.shape[2] > 1
    if not dropout and can_fuse((query, key, value), attention_mask, causal):
        return FusedAttention.apply(query, key, value, _additive(attention_mask, query), scaling, causal), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, **kwargs)


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask of truth values (True: seen) as numbers to add to the scores; one of numbers as it is."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, float("-inf"))


def mssa_attention(module: nn.Module, *tokens: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """As `sdpa_attention`, and by Triton's kernel on a GPU."""
    return sdpa_attention(module, *tokens, kernels=True, **kwargs)


def _scaling_and_causal(
    module: nn.Module, query: Tensor, scaling: float | None = None, is_causal: bool | None = None, **_: Any
) -> tuple[float, bool]:
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    return query.shape[-1] ** -0.5 if scaling is None else scaling, bool(causal)


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
    return shrink(add_product(x, left, right.mT, step_size), threshold)


for _name, _attention in (("mssa", mssa_attention), ("torch_sdpa", sdpa_attention_forward)):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, sdpa_mask)

ATTENTION_FUNCTIONS = AttentionInterface()  # transformers' own, but for what is called sdpa inside this library
ATTENTION_FUNCTIONS["sdpa"] = sdpa_attention

__all__ = ["ATTENTION_FUNCTIONS", "mssa_attention", "sdpa_attention", "shrink", "shrink_sum"]
