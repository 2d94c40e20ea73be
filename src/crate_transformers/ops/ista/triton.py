"""What follows the last product of an ISTA step, in one pass over the tokens. Imported only where Triton is used.

    z = relu(x + eta y - eta lambda),  y = x (D - D^T D)
    dx = [z > 0] dz,                   dy = eta [z > 0] dz

The sum is taken in float32 and rounded once, also in half precision, where sum, threshold and relu of their own would
read and write all tokens three times and round each time.

Shapes: n elements of one shape; x, y and z may differ in dtype (autocast).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _forward(x, product, code, step_size, threshold, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    moved = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - threshold
    moved += step_size * tl.load(product + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(code + place, tl.where(moved <= 0, 0.0, moved).to(code.dtype.element_ty), mask=inside)  # NaN stays


@triton.jit
def _backward(code, gradient, grad_x, grad_product, step_size, size, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    passed = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    passed = tl.where(tl.load(code + place, mask=inside, other=0.0) <= 0, 0.0, passed)
    tl.store(grad_x + place, passed.to(grad_x.dtype.element_ty), mask=inside)
    tl.store(grad_product + place, (step_size * passed).to(grad_product.dtype.element_ty), mask=inside)


class ShrinkSum(torch.autograd.Function):
    """x, y, eta, eta lambda -> relu(x + eta y - eta lambda), in the dtype of y."""

    @staticmethod
    def forward(ctx, x: Tensor, product: Tensor, step_size: float, threshold: float) -> Tensor:
        x, product = x.contiguous(), product.contiguous()
        code = torch.empty_like(product)
        grid = (triton.cdiv(code.numel(), _BLOCK),)
        with torch.cuda.device_of(code):
            _forward[grid](x, product, code, step_size, threshold, code.numel(), BLOCK=_BLOCK)
        ctx.save_for_backward(code)
        ctx.step_size, ctx.dtype = step_size, x.dtype
        return code

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (code,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            passed = gradient * (code > 0)
            return passed.to(ctx.dtype), (ctx.step_size * passed).to(code.dtype), None, None
        grad_x, grad_product = torch.empty_like(code, dtype=ctx.dtype), torch.empty_like(code)
        grid = (triton.cdiv(code.numel(), _BLOCK),)
        gradient = gradient.contiguous()
        with torch.cuda.device_of(code):
            _backward[grid](code, gradient, grad_x, grad_product, ctx.step_size, code.numel(), BLOCK=_BLOCK)
        return grad_x, grad_product, None, None


__all__ = ["ShrinkSum"]
