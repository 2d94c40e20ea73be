"""D - D^T D on a CPU, for two thirds of the time of a product; descent_matrix.cpp says how. Not differentiable."""

from ctypes import CDLL, c_int64
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..conditions import is_autocast_on_cpu, is_plain
from ..native.build import load
from ..native.tensors import address, num_threads

_SOURCE = Path(__file__).with_name("descent_matrix.cpp")
_PANEL = 48  # columns of a panel, as descent_matrix.cpp


def _library() -> CDLL | None:
    return load(_SOURCE, ("descent_matrix",))


@torch.library.custom_op("crate::descent_matrix", mutates_args=(), device_types="cpu")
def descent_matrix(dictionary: Tensor) -> Tensor:
    """D - D^T D (d, d) of D (d, d) float32, d >= 1.

    Raises:
        MemoryError: there is none for a copy of D.
    """
    width, dictionary = len(dictionary), dictionary.contiguous()
    panels = dictionary.new_empty(-(-width // _PANEL) * _PANEL * width)
    result = torch.empty_like(dictionary)
    library = _library()
    assert library is not None
    if not library.descent_matrix(address(dictionary), c_int64(width), num_threads(), address(panels), address(result)):
        raise MemoryError("no memory for the products of a dictionary")
    return result


@descent_matrix.register_fake
def _(dictionary: Tensor) -> Tensor:
    return torch.empty_like(dictionary)


# as torch counts the whole product
@register_flop_formula(torch.ops.crate.descent_matrix)
def _flops(shape: torch.Size, *_: object, **__: object) -> int:
    return 2 * shape[0] ** 3


def can_descend(dictionary: Tensor) -> bool:
    """Whether the operator takes D: float32, on a CPU, and no narrower product is asked for."""
    if is_autocast_on_cpu() or not is_plain(dictionary):
        return False
    return dictionary.numel() > 0 and _library() is not None


__all__ = ["can_descend", "descent_matrix"]
