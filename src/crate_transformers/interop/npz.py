"""Checkpoints of flax: an .npz archive of arrays, or a table of them, by names joined with slashes.

Only plain arrays are read: one with Python objects is refused, and none of its code is run. What an array's header says
of its size is compared with what is stored before anything is allocated. numpy has no bfloat16: such arrays come back
as two bytes of no type, and are seen as what they are. Every other array that is not of numbers is refused.
"""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError

BESIDE = ("opt/", "chrono/")  # the state of the optimizer and of the clock
_PARAMETERS = "params/"
_MOST_COMPRESSION, _ALWAYS_READ = 20, 4 * 2**30  # an archive that unpacks to so many bytes is read whatever its length


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive, but for those of the optimizer and the clock, which stay None.

    Raises:
        UserError: an array of Python objects, or one whose header does not fit what is stored.
    """
    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        records = [record for record in archive.infolist() if record.filename.endswith(".npy")]
        names = [record.filename.removesuffix(".npy") for record in records]
        if len(set(names)) < len(names):
            raise UserError(f"{path} is no archive of numpy: it names an array twice")
        most = max(_MOST_COMPRESSION * path.stat().st_size, _ALWAYS_READ)
        if sum(record.file_size for record in records) > most:
            raise UserError(f"{path} claims to hold far more than its length: it is damaged, or made to fill memory")
        for name, record in zip(names, records, strict=True):
            if name.startswith(BESIDE):
                arrays[name] = None
                continue
            with archive.open(record) as file:
                _check_header(path, name, file, record.file_size)
            with archive.open(record) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    if not arrays:
        raise UserError(f"{path} holds no arrays")
    return arrays


def _check_header(path: Path, name: str, file: Any, stored: int) -> None:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise UserError(
            f"{path} holds Python objects ({name}): it was not read, because that would run code. Save plain arrays"
        )
    if math.prod(shape) * dtype.itemsize != stored - file.tell():
        raise UserError(f"{path} is damaged: {name} is not as large as it says")


def as_tensor(name: object, value: object) -> object:
    """An array as a tensor, two bytes of no type as bfloat16; anything else as it is.

    Raises:
        UserError: an array that is not of numbers, or of numbers that torch does not have; named.
    """
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == np.dtype("V2"):
        return torch.from_numpy(np.ascontiguousarray(value).view(np.int16).copy()).view(torch.bfloat16)
    try:
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise UserError(f"{name} is an array of {value.dtype}: expected floating-point numbers") from error


def tree_of(content: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """A table of tensors whose names may be those of flax: without `params/`, and without what lies beside.

    Returns:
        the table; which parts were left out ("opt/", "chrono/").

    Raises:
        UserError: two names of one tensor, or an array that is not of numbers.
    """
    named = [key for key in content if isinstance(key, str)]
    is_tree = any("/" in key for key in named)
    if not is_tree:
        return {key: as_tensor(key, value) for key, value in content.items()}, []
    left_out = [part for part in BESIDE if any(key.startswith(part) for key in named)]
    kept: dict[Any, Any] = {}
    sources: dict[str, object] = {}
    for key, value in content.items():
        if str(key).startswith(BESIDE):
            continue
        name = str(key).removeprefix(_PARAMETERS)
        if name in kept:
            raise UserError(f"the checkpoint holds {name} twice, as {sources[name]!r} and as {key!r}: leave one out")
        kept[name], sources[name] = as_tensor(key, value), key
    return kept, left_out


__all__ = ["BESIDE", "as_tensor", "read_npz", "tree_of"]
