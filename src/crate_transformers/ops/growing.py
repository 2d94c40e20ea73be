"""A tensor that grows along its tokens, a few at a time, in a buffer with room for more.

Shapes: B batch, K heads, M tokens, p features.
"""

import torch
from torch import Tensor

from .conditions import wants_gradient

_GROWTH = 1.25  # a full buffer is enlarged by this factor, so that appending a token seldom copies the past


def is_sealed(tensor: Tensor) -> bool:
    """Whether a tensor was made in inference mode, which was left since: nothing may be written into it any more."""
    if torch.compiler.is_compiling():
        return False
    return tensor.is_inference() and not torch.is_inference_mode_enabled()


def writable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where nothing may be written into it."""
    return tensor.clone() if is_sealed(tensor) else tensor


def stay_in_place(*tensors: Tensor) -> None:
    """Say that tensors are written into, and never replaced, so that a compiled graph is made of them once."""
    if not torch.compiler.is_compiling():
        for tensor in tensors:
            torch._dynamo.mark_static_address(tensor)


class GrowingTensor:
    """What was appended so far is a view of the buffer; views that were handed out earlier are never written over."""

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self._filled: Tensor | None = None

    def append(self, past: Tensor, new: Tensor) -> Tensor:
        """past (B, K, M, p) and new (B, K, N, p) as one tensor (B, K, M + N, p); differentiable."""
        if wants_gradient(past, new):
            return torch.cat([past, new], dim=-2)
        length, total = past.shape[-2], past.shape[-2] + new.shape[-2]
        # `past` may have been reordered or cropped since: only the view that was made here may grow in place
        fits = past is self._filled and self._buffer is not None and total <= self._buffer.shape[-2]
        if not fits or self._buffer is None or is_sealed(self._buffer):
            shape = list(past.shape)
            shape[-2] = int(total * _GROWTH) + 16
            self._buffer = new.new_empty(shape)
            self._buffer[..., :length, :] = past
            # an exported graph gives back every tensor that a cache holds: the room is no chance content of the memory
            self._buffer[..., total:, :] = 0
        self._buffer[..., length:total, :] = new
        self._filled = self._buffer[..., :total, :]
        return self._filled

    def clear(self) -> None:
        """Forget what was appended."""
        self._buffer = self._filled = None


__all__ = ["GrowingTensor", "is_sealed", "stay_in_place", "writable"]
