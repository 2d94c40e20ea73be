"""The kernel of MSSA for GPUs, forward and backward, with query = key = value. Imported only where Triton is used.

    S = s W W^T,  L_i = log sum_j exp(S_ij),  P_ij = exp(S_ij - L_i),  O = P W                         (s: the scaling)
    dP_ij = dO_i . W_j,  dS_ij = P_ij (dP_ij - dO_i . O_i)
    dW_r = sum_c  P_cr dO_c  +  s (dS_rc + dS_cr) W_c

W is read once a tile, as key and as value. S is symmetric: the tile (r, c) gives P_rc and P_cr both, so the backward
pass is one kernel of five products a tile that writes one gradient; attention with three inputs needs seven products in
two kernels, or atomic sums, and then adds three gradients.

Shapes: B batch, K heads, N tokens, p head_dim, R and C the rows and columns of a tile. `w` has any strides; outputs are
(B, N, K, p), which is what the output projection reads.

Source: the tiling and online softmax of FlashAttention-2, arXiv 2307.08691, written anew for one tensor.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .second_derivative import sum_of_gradients

_LOG2_E = tl.constexpr(1.4426950408889634)
_BLOCK = 64  # tokens of a tile in half precision


@triton.jit
def _place(num_tokens, BLOCK: tl.constexpr):
    """Which tile of rows, of which head of which sequence (batch * heads + head).

    One axis for both, tiles first: neighbours share tokens, and the other axes of a grid end at 65,535.
    """
    tiles = tl.cdiv(num_tokens, BLOCK)
    return tl.program_id(0) % tiles, tl.program_id(0) // tiles


@triton.jit
def _load_rows(start, rows, features, stride_n, stride_p, num_tokens, width):
    """A tile (R, p) of the tokens `rows`, zero outside."""
    inside = (rows[:, None] < num_tokens) & (features[None, :] < width)
    return tl.load(start + rows[:, None] * stride_n + features[None, :] * stride_p, mask=inside, other=0.0)


@triton.jit
def _forward(
    w, out, logsumexp, scale, num_heads, num_tokens, width,
    w_b, w_k, w_n, w_p, o_b, o_n, o_k, o_p,
    CAUSAL: tl.constexpr, BLOCK: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile, plane = _place(num_tokens, BLOCK)
    batch, head = plane // num_heads, plane % num_heads
    w += batch.to(tl.int64) * w_b + head * w_k
    rows = tile * BLOCK + tl.arange(0, BLOCK)
    features = tl.arange(0, FEATURES)
    query = _load_rows(w, rows, features, w_n, w_p, num_tokens, width)  # (R, p)
    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, FEATURES], tl.float32)
    end = tl.minimum((tile + 1) * BLOCK, num_tokens) if CAUSAL else num_tokens
    for start in range(0, end, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        tokens = _load_rows(w, columns, features, w_n, w_p, num_tokens, width)  # (C, p), key and value
        scores = tl.dot(query, tl.trans(tokens), input_precision=PRECISION) * (scale * _LOG2_E)
        seen = columns[None, :] < num_tokens
        if CAUSAL:
            seen = seen & (columns[None, :] <= rows[:, None])
        scores = tl.where(seen, scores, -float("inf"))
        new = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - new[:, None])
        shrink = tl.exp2(highest - new)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None]
        mixed += tl.dot(weights.to(tokens.dtype), tokens, input_precision=PRECISION)
        highest = new
    inside = (rows[:, None] < num_tokens) & (features[None, :] < width)
    place = out + batch.to(tl.int64) * o_b + head * o_k + rows[:, None] * o_n + features[None, :] * o_p
    tl.store(place, (mixed / total[:, None]).to(out.dtype.element_ty), mask=inside)
    tl.store(logsumexp + plane.to(tl.int64) * num_tokens + rows, highest + tl.log2(total), mask=rows < num_tokens)


@triton.jit
def _tile(
    grad_rows, w, gradient, logsumexp, delta, w_row, g_row, l_row, d_row, rows, start, features, scale,
    num_tokens, width, w_n, w_p, g_n, g_p,
    AS_QUERY: tl.constexpr, AS_KEY: tl.constexpr, DIAGONAL: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What the tokens of one tile of columns add to the gradient of the rows, as queries and as keys."""
    columns = start + tl.arange(0, BLOCK)
    tokens = _load_rows(w, columns, features, w_n, w_p, num_tokens, width)  # W_c (C, p)
    scores = tl.dot(w_row, tl.trans(tokens), input_precision=PRECISION) * (scale * _LOG2_E)  # (R, C)
    inside = (rows[:, None] < num_tokens) & (columns[None, :] < num_tokens)
    symmetric = tl.zeros([BLOCK, BLOCK], tl.float32)  # dS_rc + dS_cr
    if AS_QUERY:
        seen = inside & (columns[None, :] <= rows[:, None]) if DIAGONAL else inside
        forward = tl.where(seen, tl.exp2(scores - l_row[:, None]), 0.0)  # P_rc
        symmetric += forward * (tl.dot(g_row, tl.trans(tokens), input_precision=PRECISION) - d_row[:, None])
    if AS_KEY:
        g_column = _load_rows(gradient, columns, features, g_n, g_p, num_tokens, width)  # dO_c (C, p)
        l_column = tl.load(logsumexp + columns, mask=columns < num_tokens, other=0.0)
        d_column = tl.load(delta + columns, mask=columns < num_tokens, other=0.0)
        seen = inside & (rows[:, None] <= columns[None, :]) if DIAGONAL else inside
        backward = tl.where(seen, tl.exp2(scores - l_column[None, :]), 0.0)  # P_cr, transposed
        symmetric += backward * (tl.dot(w_row, tl.trans(g_column), input_precision=PRECISION) - d_column[None, :])
        grad_rows += tl.dot(backward.to(g_column.dtype), g_column, input_precision=PRECISION)
    return grad_rows + scale * tl.dot(symmetric.to(tokens.dtype), tokens, input_precision=PRECISION)


@triton.jit
def _backward(
    w, gradient, logsumexp, delta, grad_w, scale, num_heads, num_tokens, width,
    w_b, w_k, w_n, w_p, g_b, g_n, g_k, g_p,
    CAUSAL: tl.constexpr, BLOCK: tl.constexpr, FEATURES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile, plane = _place(num_tokens, BLOCK)
    batch, head = plane // num_heads, plane % num_heads
    w += batch.to(tl.int64) * w_b + head * w_k
    gradient += batch.to(tl.int64) * g_b + head * g_k
    grad_w += batch.to(tl.int64) * g_b + head * g_k
    logsumexp += plane.to(tl.int64) * num_tokens
    delta += plane.to(tl.int64) * num_tokens
    first = tile * BLOCK
    rows, features = first + tl.arange(0, BLOCK), tl.arange(0, FEATURES)
    w_row = _load_rows(w, rows, features, w_n, w_p, num_tokens, width)
    g_row = _load_rows(gradient, rows, features, g_n, g_p, num_tokens, width)
    l_row = tl.load(logsumexp + rows, mask=rows < num_tokens, other=0.0)
    d_row = tl.load(delta + rows, mask=rows < num_tokens, other=0.0)
    total = tl.zeros([BLOCK, FEATURES], tl.float32)
    if CAUSAL:  # rows are queries of what is before them, keys of what comes after, and both of themselves
        for start in range(0, first, BLOCK):
            total = _tile(total, w, gradient, logsumexp, delta, w_row, g_row, l_row, d_row, rows, start, features,
                          scale, num_tokens, width, w_n, w_p, g_n, g_p, True, False, False, BLOCK,
                          PRECISION)  # fmt: skip
        total = _tile(total, w, gradient, logsumexp, delta, w_row, g_row, l_row, d_row, rows, first, features,
                      scale, num_tokens, width, w_n, w_p, g_n, g_p, True, True, True, BLOCK,
                      PRECISION)  # fmt: skip
        for start in range(first + BLOCK, num_tokens, BLOCK):
            total = _tile(total, w, gradient, logsumexp, delta, w_row, g_row, l_row, d_row, rows, start, features,
                          scale, num_tokens, width, w_n, w_p, g_n, g_p, False, True, False, BLOCK,
                          PRECISION)  # fmt: skip
    else:
        for start in range(0, num_tokens, BLOCK):
            total = _tile(total, w, gradient, logsumexp, delta, w_row, g_row, l_row, d_row, rows, start, features,
                          scale, num_tokens, width, w_n, w_p, g_n, g_p, True, True, False, BLOCK,
                          PRECISION)  # fmt: skip
    inside = (rows[:, None] < num_tokens) & (features[None, :] < width)
    place = grad_w + rows[:, None] * g_n + features[None, :] * g_p
    tl.store(place, total.to(grad_w.dtype.element_ty), mask=inside)


def _precision(dtype: torch.dtype, cuda: bool) -> str:
    """How products of a dtype are taken: float32's as three of the matrix unit's, which hold its digits.

    Written out in scalars ("ieee") they take minutes to compile and spill registers. Triton's interpreter multiplies in
    float32 whatever is asked for; other makers' units have no such mode.
    """
    return "tf32x3" if dtype == torch.float32 and cuda else "ieee"


def settings_of(
    num_tokens: int, width: int, dtype: torch.dtype, cuda: bool = torch.version.cuda is not None
) -> dict[str, int | str]:
    """The compile-time arguments of both kernels for tokens of a head; cuda: NVIDIA's GPUs, not another maker's."""
    features = max(16, triton.next_power_of_2(width))
    largest = _BLOCK
    if dtype == torch.float32:  # larger tiles spill kilobytes a thread, or do not fit
        largest = _BLOCK // 2 if features <= 64 else _BLOCK // 4
    block = min(largest, max(16, triton.next_power_of_2(num_tokens)))
    return {"BLOCK": block, "FEATURES": features, "PRECISION": _precision(dtype, cuda)}


class SubspaceFlashAttention(torch.autograd.Function):
    """(B, K, N, p), scaling, causal -> (B, N, K, p)."""

    @staticmethod
    def forward(ctx, w: Tensor, scaling: float, causal: bool) -> Tensor:
        batch, heads, num_tokens, width = w.shape
        out = w.new_empty(batch, num_tokens, heads, width)
        logsumexp = w.new_empty(batch, heads, num_tokens, dtype=torch.float32)  # in base 2
        settings = settings_of(num_tokens, width, w.dtype)
        grid = (triton.cdiv(num_tokens, settings["BLOCK"]) * batch * heads,)
        with torch.cuda.device_of(w):
            _forward[grid](
                w, out, logsumexp, scaling, heads, num_tokens, width, *w.stride(), *out.stride(), CAUSAL=causal,
                **settings,
            )  # fmt: skip
        ctx.save_for_backward(w, out, logsumexp)
        ctx.scaling, ctx.causal = scaling, causal
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        w, out, logsumexp = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            return sum_of_gradients(gradient, (w, w, w), None, ctx.scaling, ctx.causal), None, None
        batch, heads, num_tokens, width = w.shape
        gradient = gradient.contiguous()
        delta = (gradient.float() * out.float()).sum(dim=-1).transpose(1, 2).contiguous()  # (B, K, N)
        grad_w = torch.empty_like(out)  # (B, N, K, p): as the projection's gradient lies
        settings = settings_of(num_tokens, width, w.dtype)
        grid = (triton.cdiv(num_tokens, settings["BLOCK"]) * batch * heads,)
        with torch.cuda.device_of(w):
            _backward[grid](
                w, gradient, logsumexp, delta, grad_w, ctx.scaling, heads, num_tokens, width, *w.stride(),
                *gradient.stride(), CAUSAL=ctx.causal, **settings,
            )  # fmt: skip
        return grad_w.transpose(1, 2), None, None


__all__ = ["SubspaceFlashAttention", "settings_of"]
