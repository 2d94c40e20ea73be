"""Where Triton's kernels run: on a GPU, or on a CPU under Triton's interpreter (TRITON_INTERPRET=1)."""

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from .conditions import is_tensor_itself, is_transformed

_HAS_TRITON = find_spec("triton") is not None


def runs_triton(tensor: Tensor) -> bool:
    """Whether the kernels take a tensor: torch's own, no model being exported or transformed; they sum in float32, so
    float64 is torch's."""
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    here = tensor.is_cuda or (interpreted and tensor.device.type == "cpu")
    takes = here and tensor.dtype != torch.float64 and is_tensor_itself(tensor)
    return _HAS_TRITON and takes and not is_transformed()


__all__ = ["runs_triton"]
