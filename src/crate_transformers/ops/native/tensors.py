"""How C++ is told of a tensor. Shapes: B batch, K heads, N tokens, p features."""

from ctypes import c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor


def address(tensor: Tensor) -> c_void_p:
    """Where the first element of a tensor lies."""
    return c_void_p(tensor.data_ptr())


def without_gaps(w: Tensor) -> Tensor:
    """A tensor whose last axis lies without gaps; an axis of one entry has none, whatever its stride is said to be."""
    return w if w.shape[-1] == 1 or w.stride(-1) == 1 else w.contiguous()


def heads_of(w: Tensor) -> list[Any]:
    """A tensor (B, K, N, p), the last axis without gaps: place, shape, the strides of the other axes."""
    assert w.shape[-1] == 1 or w.stride(-1) == 1
    return [address(w), *map(c_int64, w.shape), *map(c_int64, w.stride()[:3])]


def num_threads() -> c_int:
    """How many threads torch uses; the compiled code uses as many."""
    return c_int(torch.get_num_threads())


__all__ = ["address", "heads_of", "num_threads", "without_gaps"]
