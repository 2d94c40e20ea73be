"""Attention whose gradient may have a graph of its own (`create_graph=True`: gradient penalties, second derivatives).

torch's fused attention on a CPU, and the library's, have a first derivative alone. Where a graph of the gradient is
asked for, and only there, the gradient is taken through the definition instead:

    softmax(scaling Q K^T + mask) V        0 for a query that sees nothing (padding on the left)

Shapes: B batch, K heads, N queries, M keys, p features.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop, sdpa_flop

from .tensors import is_plain

_fused_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_FLASH = torch.nn.attention.SDPBackend.FLASH_ATTENTION.value
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# torch counts the operations of its fused attention on every device but, since 2.14, a CPU
for _operator, _formula in ((_fused_forward, sdpa_flop), (_fused_backward, sdpa_backward_flop)):
    if _operator not in flop_registry:
        register_flop_formula(_operator, get_raw=True)(_formula)

Tokens = tuple[Tensor, Tensor, Tensor]  # queries (B, K, N, p), keys and values (B, K, M, p)


def _by_definition(tokens: Tokens, mask: Tensor | None, scaling: float, causal: bool) -> Tensor:
    """Mixed tokens (B, N, K, p), differentiable any number of times; half precision is widened."""
    queries, keys, values = (x if x.dtype == torch.float64 else x.float() for x in tokens)
    scores = scaling * (queries @ keys.mT)  # (B, K, N, M)
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if mask is not None:
        scores = scores + mask
    blind = scores.isneginf().all(dim=-1, keepdim=True)  # (B, K, N, 1)
    weights = scores.masked_fill(blind, 0.0).softmax(dim=-1).masked_fill(blind, 0.0)
    return (weights @ values).transpose(1, 2)


def graph_of_gradients(
    gradient: Tensor, tokens: Tokens, mask: Tensor | None, scaling: float, causal: bool
) -> tuple[Tensor, ...]:
    """The gradients of queries, keys and values from that of the mixed tokens (B, N, K, p), with a graph."""
    queries, keys, values = (x.view_as(x) for x in tokens)  # so that one tensor in three roles has three gradients
    views = queries, keys, values
    mixed = _by_definition(views, mask, scaling, causal)
    return torch.autograd.grad(mixed, views, gradient.to(mixed.dtype), create_graph=True)


def sum_of_gradients(gradient: Tensor, tokens: Tokens, mask: Tensor | None, scaling: float, causal: bool) -> Tensor:
    """As `graph_of_gradients`, of one tensor in three roles."""
    first, second, third = graph_of_gradients(gradient, tokens, mask, scaling, causal)
    return first + second + third


class FusedAttention(torch.autograd.Function):
    """torch's fused attention on a CPU.

    Queries, keys, values, additive mask or None, scaling, causal -> (B, N, K, p).
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        queries, keys, values, mask, scaling, causal = inputs
        mixed, rows = _fused_forward(queries, keys, values, 0.0, causal, attn_mask=mask, scale=scaling)
        ctx.save_for_backward(queries, keys, values, mask, mixed, rows)
        ctx.scaling, ctx.causal = scaling, causal
        return mixed.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *tokens, mask, mixed, rows = ctx.saved_tensors
        if torch.is_grad_enabled():
            parts = graph_of_gradients(gradient, tuple(tokens), mask, ctx.scaling, ctx.causal)
        else:
            parts = _fused_backward(
                gradient.transpose(1, 2), *tokens, mixed, rows, 0.0, ctx.causal, attn_mask=mask, scale=ctx.scaling
            )
        return (*parts, None, None, None)


def can_fuse(tokens: Tokens, mask: Tensor | None, causal: bool) -> bool:
    """Whether torch would take its fused attention on a CPU, and a gradient is wanted: then `FusedAttention` does."""
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in tokens)
    if not wanted or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if not all(is_plain(x, _DTYPES) and x.numel() for x in tokens):
        return False
    if mask is not None and (mask.requires_grad or mask.ndim != 4):
        return False
    return torch._fused_sdp_choice(*tokens, mask, 0.0, causal) == _FLASH


__all__ = ["FusedAttention", "can_fuse", "sum_of_gradients"]
