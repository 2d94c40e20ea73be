"""Two kinds of files of many pictures, and any picture of them by its number: tar of webdataset, Parquet of the hub.

A tar holds KEY.jpg (or another picture's ending) beside KEY.cls, the number of its class, or KEY.json with `label`. A
Parquet file has a column of {bytes, path} and one of labels; the names of its classes are in the hub's metadata.
"""

import io
import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .finding import IMAGE_SUFFIXES

SHARD_SUFFIXES = (".tar", ".parquet")
_OPEN_FILES, _GROUP_BYTES = 64, 128 << 20  # that a process holds
_ROW_GROUP = 16  # rows of a group that is written: reading one picture reads its group
_END_OF_TAR = 1024  # bytes of zeros


@dataclass(frozen=True)
class ShardIndex:
    """Where the pictures of a shard lie.

    Attributes:
        offsets, lengths: (n,) int64, bytes of each in a tar; of Parquet, its row, and 0.
        labels: (n,) int64; -1 where there is none. classes: their names, where the shard knows them.
    """

    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    classes: list[str] | None = None


def index_of(path: Path) -> ShardIndex:
    """Read where the pictures of a shard lie, and their labels.

    Raises:
        UserError: it is cut off, damaged, or holds no pictures with labels as the top of this file says.
    """
    try:
        return _index_of_tar(path) if path.suffix == ".tar" else _index_of_parquet(path)
    except UserError:
        raise
    except Exception as error:  # readers raise anything
        raise UserError(f"{path} is cut off or damaged: {' '.join(str(error).split())}") from error


def _index_of_tar(path: Path) -> ShardIndex:
    places: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    size, end = path.stat().st_size, 0
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            end = member.offset_data + member.size
            if end > size:
                raise UserError(f"{path} is cut off within {member.name}")
            key, suffix = os.path.splitext(member.name)
            if suffix.lower() in IMAGE_SUFFIXES:
                places[key] = (member.offset_data, member.size)
            elif suffix in (".cls", ".json"):
                content = archive.extractfile(member)
                assert content is not None
                text = content.read()
                labels[key] = int(text) if suffix == ".cls" else int(json.loads(text).get("label", -1))
    if size < end + _END_OF_TAR:
        raise UserError(f"{path} is cut off: the end of the archive is missing")
    without = [key for key in places if key not in labels]
    if without:
        raise UserError(f"{path} has {len(without)} pictures without a label, {without[0]}.cls is missing")
    pairs = np.asarray(list(places.values()), dtype=np.int64).reshape(-1, 2)
    return ShardIndex(pairs[:, 0], pairs[:, 1], np.asarray([labels[key] for key in places], dtype=np.int64))


def _index_of_parquet(path: Path) -> ShardIndex:
    import pyarrow.parquet as parquet  # heavy

    with parquet.ParquetFile(path) as file:
        picture, label, classes = _columns(file.schema_arrow, path)
        del picture
        labels = file.read([label], use_threads=False)[label].to_numpy()
    rows = np.arange(len(labels), dtype=np.int64)
    return ShardIndex(rows, np.zeros_like(rows), labels.astype(np.int64), classes)


def _columns(schema: Any, path: Path) -> tuple[str, str, list[str] | None]:
    """(column of pictures, column of labels, names of the classes)."""
    import pyarrow as arrow  # heavy

    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    named = {name: feature.get("names") for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    pictures = [field.name for field in schema if arrow.types.is_struct(field.type) and "bytes" in str(field.type)]
    integers = [field.name for field in schema if arrow.types.is_integer(field.type)]
    labels = [name for name in integers if name in named] or [name for name in integers if name == "label"]
    if not pictures or not labels:
        raise UserError(f"{path} needs a column of pictures ({{bytes, path}}) and one of labels, has {schema.names}")
    return pictures[0], labels[0], named.get(labels[0])


class ShardReader:
    """The bytes of pictures of some shards. Each process opens the files that it reads by itself."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self.process = -1
        self._forget()

    def _forget(self) -> None:
        self.process = os.getpid()
        self.files: OrderedDict[int, Any] = OrderedDict()
        self.groups: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self.ends: dict[int, np.ndarray] = {}  # where the row groups of a Parquet file end
        self.held = 0

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """The bytes of the picture at `offset`.

        Raises:
            UserError: the shard is gone, or shorter than it was.
        """
        if self.process != os.getpid():
            self._forget()
        path = self.paths[shard]
        try:
            if path.suffix == ".parquet":
                return self._row(shard, offset)
            content = os.pread(self._file(shard), length, offset)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        if len(content) < length:
            raise UserError(f"{path} is cut off: it ends within a picture")
        return content

    def _file(self, shard: int) -> Any:
        if shard not in self.files:
            while len(self.files) >= _OPEN_FILES:
                _close(self.files.popitem(last=False)[1])
            if self.paths[shard].suffix == ".parquet":
                import pyarrow.parquet as parquet  # heavy

                self.files[shard] = parquet.ParquetFile(self.paths[shard])
            else:
                self.files[shard] = os.open(self.paths[shard], os.O_RDONLY)
        self.files.move_to_end(shard)
        return self.files[shard]

    def __del__(self) -> None:
        for file in self.files.values() if self.process == os.getpid() else ():
            _close(file)

    def _row(self, shard: int, row: int) -> bytes:
        file = self._file(shard)
        if shard not in self.ends:
            rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self.ends[shard] = np.cumsum(rows)
        group = int(np.searchsorted(self.ends[shard], row, side="right"))
        key = (shard, group)
        if key not in self.groups:
            column = _columns(file.schema_arrow, self.paths[shard])[0]
            values = file.read_row_group(group, [column], use_threads=False)[column].to_pylist()
            self.groups[key] = [value["bytes"] or b"" for value in values]
            self.held += sum(map(len, self.groups[key]))
            while self.held > _GROUP_BYTES and len(self.groups) > 1:
                self.held -= sum(map(len, self.groups.popitem(last=False)[1]))
        self.groups.move_to_end(key)
        first = int(self.ends[shard][group - 1]) if group else 0
        return self.groups[key][row - first]


def _close(file: Any) -> None:
    """Close a file of Parquet, or one that the system knows by a number."""
    if isinstance(file, int):
        os.close(file)
    else:
        file.close()


def write_shard(path: Path, items: Iterable[tuple[int, bytes, int]], classes: list[str]) -> None:
    """Write a shard whole: beside its name, then renamed. items: (number, bytes of a picture, label)."""
    part = path.with_name(f".{path.name}.part")
    if path.suffix == ".tar":
        with tarfile.open(part, "w:", format=tarfile.USTAR_FORMAT) as archive:
            for number, content, label in items:
                for name, data in ((f"{number:09d}{_suffix(content)}", content), (f"{number:09d}.cls", b"%d" % label)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    else:
        _write_parquet(part, list(items), classes)
    part.replace(path)


def _write_parquet(path: Path, items: list[tuple[int, bytes, int]], classes: list[str]) -> None:
    import pyarrow as arrow  # heavy
    import pyarrow.parquet as parquet

    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = arrow.schema([("image", picture), ("label", arrow.int64())], metadata=metadata)
    pictures = [{"bytes": content, "path": f"{number:09d}{_suffix(content)}"} for number, content, _ in items]
    table = arrow.table({"image": pictures, "label": [label for *_, label in items]}, schema=schema)
    parquet.write_table(table, path, row_group_size=_ROW_GROUP, compression="NONE", use_dictionary=False)


def _suffix(content: bytes) -> str:
    """The usual ending of a picture's name, by its first bytes."""
    heads = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II": ".tif", b"MM": ".tif"}
    if content[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for head, suffix in heads.items() if content.startswith(head)), ".png")


__all__ = ["SHARD_SUFFIXES", "ShardIndex", "ShardReader", "index_of", "write_shard"]
