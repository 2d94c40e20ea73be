"""Arrays written to one .npz row by row, so that they may be larger than memory.

The rows of each array are appended to a file of its own beside the output; when all are there, the files become the
members of the .npz, which is not compressed, and appears under its name only when it is whole.
"""

import json
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from ..errors import UserError

_COPIED = 1 << 22  # bytes at a time
_TEXTS = 4096  # texts at a time
_STAMP = (1980, 1, 1, 0, 0, 0)  # of every member, so that equal arrays make equal files


class NpzStream:
    """A .npz that is written row by row, as a context: it is there when the block ends without an error.

    Args:
        path: the file; one of that name is replaced.

    Raises:
        UserError: rows of another shape or type than the first of an array.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with NpzStream(Path(folder) / "a.npz") as stream:
        ...         stream.add("x", np.zeros((2, 3), dtype=np.float32))
        ...         stream.add("x", np.ones((1, 3), dtype=np.float32))
        ...     with np.load(Path(folder) / "a.npz") as content:
        ...         content["x"].tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, path: Path):
        self.path = path
        self._folder = path.with_name(f".{path.name}.{uuid.uuid4().hex}.parts")
        self._stack = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        self._rows: dict[str, int] = {}
        self._kinds: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}  # of an array: type, shape of a row
        self._longest: dict[str, int] = {}  # of texts: characters
        self._whole: dict[str, np.ndarray] = {}

    def __enter__(self) -> "NpzStream":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
            if kind is None:
                self._assemble()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, name: str, rows: np.ndarray) -> None:
        """Append rows (B, ...) to an array."""
        found = (rows.dtype, rows.shape[1:])
        first = self._kinds.setdefault(name, found)
        if found != first:
            raise UserError(
                f"{name}: rows of shape {found[1]} ({found[0]}) after rows of shape {first[1]} ({first[0]})"
            )
        self._file(name).write(np.ascontiguousarray(rows).tobytes())
        self._rows[name] = self._rows.get(name, 0) + len(rows)

    def add_texts(self, name: str, texts: Sequence[str]) -> None:
        """Append texts to an array of them."""
        self._file(name).write("".join(f"{json.dumps(text)}\n" for text in texts).encode())
        self._rows[name] = self._rows.get(name, 0) + len(texts)
        self._longest[name] = max([self._longest.get(name, 1), *map(len, texts)])

    def put(self, name: str, array: np.ndarray) -> None:
        """A small array, whole."""
        self._whole[name] = array

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every array of numbers so far."""
        return {name: (self._rows[name], *shape) for name, (_, shape) in self._kinds.items()}

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = self._stack.enter_context((self._folder / f"{len(self._files)}").open("wb"))
        return self._files[name]

    def _assemble(self) -> None:
        part = self._folder / "npz"
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in self._whole.items():
                self._member(archive, name, array.dtype, array.shape, [np.ascontiguousarray(array).tobytes()])
            for name, file in self._files.items():
                source = Path(file.name)
                if name in self._kinds:
                    dtype, shape = self._kinds[name]
                    content = _pieces(source)
                else:
                    dtype, shape = np.dtype(f"<U{self._longest[name]}"), ()
                    content = _texts(source, dtype)
                self._member(archive, name, dtype, (self._rows[name], *shape), content)
                source.unlink()
        part.replace(self.path)

    @staticmethod
    def _member(
        archive: zipfile.ZipFile,
        name: str,
        dtype: np.dtype,
        shape: tuple[int, ...],
        content: "Sequence[bytes] | Iterator[bytes]",
    ) -> None:
        info = zipfile.ZipInfo(f"{name}.npy", _STAMP)
        about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with archive.open(info, "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, about)
            for piece in content:
                member.write(piece)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_COPIED):
            yield piece


def _texts(path: Path, dtype: np.dtype) -> Iterator[bytes]:
    with path.open(encoding="utf-8") as file:
        waiting: list[str] = []
        for line in file:
            waiting.append(json.loads(line))
            if len(waiting) == _TEXTS:
                yield np.asarray(waiting, dtype=dtype).tobytes()
                waiting = []
        if waiting:
            yield np.asarray(waiting, dtype=dtype).tobytes()


__all__ = ["NpzStream"]
