"""torch's fused attention, and on a CPU the same with a second derivative.

Shapes: B batch, K heads, N queries, M keys, p features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop, sdpa_flop

from ..conditions import HALF, WIDE, is_autocast_on_cpu, is_plain, wants_gradient
from .second_derivative import Tokens, graph_of_gradients

_fused_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_FLASH = torch.nn.attention.SDPBackend.FLASH_ATTENTION.value

# torch counts the operations of its fused attention on every device but, since 2.14, a CPU
for _operator, _formula in ((_fused_forward, sdpa_flop), (_fused_backward, sdpa_backward_flop)):
    if _operator not in flop_registry:
        register_flop_formula(_operator, get_raw=True)(_formula)


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
    if not wants_gradient(*tokens) or torch.compiler.is_compiling() or is_autocast_on_cpu():
        return False
    if not all(is_plain(x, (*WIDE, *HALF)) and x.numel() for x in tokens):
        return False
    if mask is not None and (mask.requires_grad or mask.ndim != 4):
        return False
    return torch._fused_sdp_choice(*tokens, mask, 0.0, causal) == _FLASH


def attend_with_second_derivative(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float, causal: bool
) -> Tensor:
    """Mixed tokens (B, N, K, p) where `can_fuse` says so; arguments as in equation.attend."""
    if mask is not None and mask.dtype == torch.bool:  # the operator adds its mask
        mask = torch.zeros_like(mask, dtype=queries.dtype).masked_fill_(~mask, float("-inf"))
    return FusedAttention.apply(queries, keys, values, mask, scaling, causal)


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float, causal: bool, dropout: float
) -> Tensor:
    """Mixed tokens (B, N, K, p) by torch's scaled_dot_product_attention; arguments as in equation.attend."""
    if causal:  # what comes after the last query (room in a cache of fixed length) is seen by none
        keys, values = keys[:, :, : queries.shape[2]], values[:, :, : queries.shape[2]]
    mixed = F.scaled_dot_product_attention(queries, keys, values, mask, dropout, causal, scale=scaling)
    return mixed.transpose(1, 2).contiguous()


__all__ = ["attend", "attend_with_second_derivative", "can_fuse"]
