"""The machine that a benchmark ran on, in words, and how fast it multiplies matrices."""

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ..ops import linear
from ..ops.forms import current_choice
from ..ops.mssa.cpu import is_built
from ..ops.native.processor import describe_processor

_SIDE, _SIDE_OF_GPU = 1024, 8192  # of products that are long enough to be timed


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, device, versions; nothing that names the machine."""
    memory = installed_memory()
    packages = ("torch", "transformers", "numpy", "crate-transformers")
    return {
        "processor": describe_processor("model name"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "own_cpu_operators": current_choice() == "all" and is_built(),
        "device": torch.get_default_device().type,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def load_average() -> float | None:
    """Processes that wanted to run over the last minute: above the number of cores, timings are noisy."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def installed_memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def matrix_product() -> tuple[Callable[[], Tensor], int]:
    """A large float32 matrix product on torch's default device to time beside the contenders, and its operations.

    By oneDNN where the processor is faster with it (see ops/linear/onednn.py), whoever is timed beside it.
    """
    side = _SIDE if torch.get_default_device().type == "cpu" else _SIDE_OF_GPU
    a, b = torch.randn(side, side), torch.randn(side, side)
    return (lambda: linear(a, b)), 2 * side**3


__all__ = ["describe_machine", "installed_memory", "load_average", "matrix_product"]
