"""How C++ is told of a tensor. Shapes: B batch, K heads, N tokens, p features."""

from ctypes import c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor


def at(tensor: Tensor) -> c_void_p:
    """Where its first element lies."""
    return c_void_p(tensor.data_ptr())


def without_gaps(w: Tensor) -> Tensor:
    """A tensor whose last axis lies without gaps; an axis of one entry has none, whatever its stride is said to be."""
    return w if w.shape[-1] == 1 or w.stride(-1) == 1 else w.contiguous()


def heads_of(w: Tensor) -> list[Any]:
    """A tensor (B, K, N, p), the last axis without gaps: place, shape, the strides of the other axes."""
    assert w.shape[-1] == 1 or w.stride(-1) == 1
    return [at(w), *map(c_int64, w.shape), *map(c_int64, w.stride()[:3])]


def threads() -> c_int:
    """As many as torch takes."""
    return c_int(torch.get_num_threads())


def is_plain(tensor: Tensor, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> bool:
    """Whether its numbers can be read: on a CPU, of these dtypes, and no model is being exported or transformed."""
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    return tensor.device.type == "cpu" and tensor.dtype in dtypes


__all__ = ["at", "heads_of", "is_plain", "threads", "without_gaps"]
