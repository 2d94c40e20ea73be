"""Data as files, each written whole or not at all: JSON, tables, named arrays."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_bytes
from .tables import csv_text


def plain(value: Any) -> Any:
    """Mappings, sequences and numbers as JSON holds them: text as keys, lists, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_bytes(content: Any) -> bytes:
    """JSON, indented; numbers that are not finite become null."""
    return (json.dumps(plain(content), indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Path, content: Any) -> Path:
    """JSON, indented; numbers that are not finite become null."""
    return write_bytes(path, json_bytes(content))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows of equal keys, with a heading."""
    return write_bytes(path, csv_text(rows).encode())


def write_arrays(path: Path, **arrays: np.ndarray) -> Path:
    """Named arrays as .npz."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return write_bytes(path, buffer.getvalue())


__all__ = ["json_bytes", "plain", "write_arrays", "write_csv", "write_json"]
