"""What the system says of the processor."""

import platform
from functools import cache
from pathlib import Path

_FILE = Path("/proc/cpuinfo")


@cache
def describe_processor(field: str) -> str:
    """What `/proc/cpuinfo` holds under a name ("model name", "vendor_id"); where it does not, Python's description."""
    lines = _FILE.read_text().splitlines() if _FILE.exists() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(field))
    return next(found, None) or platform.processor() or platform.machine()


__all__ = ["describe_processor"]
