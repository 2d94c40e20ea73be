"""What the weights of a model's folder say of themselves: names, shapes and types, read without the numbers."""

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import UserError

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_WHOLE_NUMBERS = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"})


@dataclass(frozen=True)
class StoredTensor:
    """shape; type: safetensors' name of it (F32, I64, ...)."""

    shape: tuple[int, ...]
    type: str

    @property
    def is_float(self) -> bool:
        return self.type in _FLOATS


@dataclass(frozen=True)
class StoredSize:
    """At most so many tensors and numbers are stored."""

    tensors: int
    numbers: int


def stored_size(folder: Path) -> StoredSize:
    """What the weights of a folder can hold at most; of pickles, by the length of their files.

    Raises:
        UserError: as `stored_tensors`.
    """
    stored = stored_tensors(folder)
    if stored is not None:
        return StoredSize(len(stored), sum(math.prod(tensor.shape) for tensor in stored.values()))
    tensors = numbers = 0
    for file in folder.glob("pytorch_model*.bin"):
        length = file.stat().st_size
        tensors += len(zipfile.ZipFile(file).infolist()) if zipfile.is_zipfile(file) else length
        numbers += length  # of a byte each, at least
    return StoredSize(tensors, numbers)


def stored_tensors(folder: Path) -> dict[str, StoredTensor] | None:
    """The tensors of the safetensors files of a folder by name; None where it keeps its weights in pickles.

    Raises:
        UserError: no weights, files that are missing or damaged, or a tensor of numbers that no layer computes with.
    """
    found: dict[str, StoredTensor] = {}
    for file, expected in _files(folder):
        try:
            with safe_open(file, framework="pt") as content:
                names = list(content.keys())
                if expected is not None and (lost := sorted(expected - set(names))):
                    raise UserError(f"{file} is damaged: it lacks {lost[0]}, which {_INDEX} says is there")
                for name in names:
                    if name in found:
                        raise UserError(f"{folder} is damaged: {name} is in two of its files")
                    view = content.get_slice(name)
                    found[name] = StoredTensor(tuple(view.get_shape()), str(view.get_dtype()))
        except (SafetensorError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{file} is damaged: {error}") from error
    for name, tensor in found.items():
        if not tensor.is_float and tensor.type not in _WHOLE_NUMBERS:
            raise UserError(f"{name} in {folder} is of type {tensor.type}: expected F16, BF16, F32 or F64")
    if found:
        return found
    if any((folder / name).is_file() for name in _PICKLES):
        return None
    raise UserError(f"{folder} holds no weights: it has no {_WEIGHTS}, or an empty one")


def _files(folder: Path) -> Iterator[tuple[Path, set[str] | None]]:
    """The files of the weights, each with the names that the index says it holds (None: there is no index)."""
    if (folder / _WEIGHTS).is_file():
        yield folder / _WEIGHTS, None
    elif (folder / _INDEX).is_file():
        shards: dict[str, set[str]] = {}
        for name, shard in _weight_map(folder / _INDEX).items():
            shards.setdefault(shard, set()).add(name)
        for shard, names in sorted(shards.items()):
            if not (folder / shard).is_file():
                raise UserError(f"{folder} is incomplete: {_INDEX} names {shard}, which is not there")
            yield folder / shard, names


def _weight_map(index: Path) -> dict[str, str]:
    content = read_json(index)
    table = content.get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError(f"{index} is damaged: it has no table weight_map")
    for name, shard in table.items():
        if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard:
            raise UserError(f"{index} is damaged: {shard!r}, where {name} should be, is no file of its folder")
    return table


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        UserError: it holds something else.
    """
    try:
        content = json.loads(file.read_bytes(), object_pairs_hook=_without_repetition)
    except UserError as error:
        raise UserError(f"{file} is damaged: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is damaged: expected a JSON object, got {type(content).__name__}")
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise UserError(f"{next(name for name in names if names.count(name) > 1)!r} is in it twice")
    return content


__all__ = ["StoredSize", "StoredTensor", "read_json", "stored_size", "stored_tensors"]
