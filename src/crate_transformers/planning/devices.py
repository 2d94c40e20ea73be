"""The devices that a run can be planned for: what they compute, hold and draw, as their makers state it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ..bench.machine import installed_memory, matrix_product
from ..errors import UserError
from ..recipes.checks import near

_GIB = 2**30


@dataclass(frozen=True)
class Device:
    """A device of a run.

    Attributes:
        name: as the maker writes it. narrow: peak operations a second of bfloat16 or float16 products, dense,
            a multiply-add as two. wide: of float32 products. memory: bytes. watts: its rated power; None: unknown.
        source: of these figures. has_bfloat16: whether it has products of bfloat16. is_cpu: whether it is no GPU.
    """

    name: str
    narrow: float
    wide: float
    memory: int
    watts: float | None
    source: str
    has_bfloat16: bool = True
    is_cpu: bool = False

    def rate(self, dtype: torch.dtype | None) -> float:
        """Peak operations a second of products in the dtype of mixed precision; None is float32."""
        return self.wide if dtype is None else self.narrow


def _nvidia(name: str, narrow: float, wide: float, gigabytes: int, watts: float, has_bfloat16: bool = True) -> Device:
    source = f"NVIDIA's data sheet of the {name}"
    return Device(name, narrow * 1e12, wide * 1e12, gigabytes * _GIB, watts, source, has_bfloat16)


# float32 products take the vector units: torch does not use TF32 unless it is asked to
_TABLE: dict[str, Device] = {
    "v100": _nvidia("V100 SXM2 32GB", 125, 15.7, 32, 300, has_bfloat16=False),
    "t4": _nvidia("T4", 65, 8.1, 16, 70, has_bfloat16=False),
    "a100": _nvidia("A100 SXM 80GB", 312, 19.5, 80, 400),
    "a100-40gb": _nvidia("A100 SXM 40GB", 312, 19.5, 40, 400),
    "l4": _nvidia("L4", 121, 30.3, 24, 72),
    "l40s": _nvidia("L40S", 362, 91.6, 48, 350),
    "rtx3090": _nvidia("GeForce RTX 3090", 71, 35.6, 24, 350),
    "rtx4090": _nvidia("GeForce RTX 4090", 165, 82.6, 24, 450),
    "h100": _nvidia("H100 SXM 80GB", 989, 67, 80, 700),
    "h200": _nvidia("H200 SXM 141GB", 989, 67, 131, 700),  # 141 x 10^9 bytes
    "mi250x": Device("MI250X", 383e12, 47.9e12, 128 * _GIB, 560, "AMD's data sheet of the MI250X"),
    "mi300x": Device("MI300X", 1307e12, 163.4e12, 192 * _GIB, 750, "AMD's data sheet of the MI300X"),
}


def _this_processor() -> Device:
    """The processor of this machine: its rate is measured, on float32 products."""
    product, operations = matrix_product()
    product()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    rate = operations / statistics.median(seconds)
    memory = installed_memory()
    source = "a product of 1024 x 1024 matrices, timed now"
    return Device("this processor", rate, rate, memory or 0, None, source, is_cpu=True)


DEVICES: dict[str, Callable[[], Device]] = {
    **{name: partial(_TABLE.__getitem__, name) for name in _TABLE},
    "cpu": _this_processor,
}


def device_of(name: str) -> Device:
    """A device by its short name.

    Raises:
        UserError: an unknown name; with the nearest one.

    Example:
        >>> device_of("h100").memory // 2**30
        80
    """
    key = name.lower()
    if key not in DEVICES:
        raise UserError(f"unknown device {name!r}{near(key, DEVICES)}: expected one of {', '.join(DEVICES)}")
    return DEVICES[key]()


__all__ = ["DEVICES", "Device", "device_of"]
