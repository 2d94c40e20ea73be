"""Which attention runs under which name of transformers' attention interface.

    eager                the equation (ops/mssa/equation.py), which alone gives the attention itself
    sdpa (the default)   the operator `attend` with the forms that its conditions allow: on a CPU, with one tensor as
                         query, key and value, the library's own; everything else by torch
    mssa                 besides, on a GPU, the library's Triton kernels: attention, and the end of an ISTA step
    torch_sdpa           torch's scaled_dot_product_attention alone

All give the same numbers. `model.set_attn_implementation(name)` picks one of them, or any other of transformers.

Shapes: B batch, K heads, N tokens, M tokens attended to, p head_dim.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from ..ops import attend
from ..ops.mssa.equation import attention
from ..upstream import sdpa_attention_forward, sdpa_mask

ONE_WIDE_HEAD = frozenset({"eager", "sdpa", "mssa", "torch_sdpa"})  # these take heads of any width


def _scaling_and_causal(
    module: nn.Module, query: Tensor, attention_mask: Tensor | None, scaling: float | None, is_causal: bool | None
) -> tuple[float, bool]:
    """What transformers' interface leaves to the module; a mask says itself what is seen, one query sees all."""
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    causal = bool(causal) and attention_mask is None and query.shape[2] > 1
    return query.shape[-1] ** -0.5 if scaling is None else scaling, causal


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention by its definition, in the signature of transformers' attention interface.

    Args:
        query: (B, K, N, p). key, value: (B, K, M, p). attention_mask: broadcastable to (B, K, N, M), additive, or bool
            with True for what is seen. is_causal: without a mask, token i sees j <= i; None is the module's.

    Returns:
        mixed tokens (B, N, K, p) and the attention (B, K, N, M), whose rows sum to 1.
    """
    weights = attention(
        query, key, attention_mask, *_scaling_and_causal(module, query, attention_mask, scaling, is_causal)
    )
    weights = F.dropout(weights, dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def sdpa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    *,
    triton: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Fused attention in the same signature.

    Args:
        triton: on a GPU, Triton's kernel where it takes the tokens.

    Returns:
        mixed tokens (B, N, K, p), and None: the attention is never written out.
    """
    scaling, causal = _scaling_and_causal(module, query, attention_mask, scaling, is_causal)
    return attend(query, key, value, attention_mask, scaling, causal, dropout, triton), None


def mssa_attention(module: nn.Module, *tokens_and_mask: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """As `sdpa_attention`, and by Triton's kernel on a GPU."""
    return sdpa_attention(module, *tokens_and_mask, triton=True, **kwargs)


for _name, _attention in (("mssa", mssa_attention), ("torch_sdpa", sdpa_attention_forward)):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, sdpa_mask)

ATTENTION_FUNCTIONS = AttentionInterface()  # transformers' own, but for what is called sdpa inside this library
ATTENTION_FUNCTIONS["sdpa"] = sdpa_attention

__all__ = ["ATTENTION_FUNCTIONS", "ONE_WIDE_HEAD", "eager_attention", "mssa_attention", "sdpa_attention"]
