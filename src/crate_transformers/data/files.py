"""Files: which lie in a folder, their names, their state, their bytes, what is no UTF-8, how one is written whole."""

import bz2
import codecs
import gzip
import lzma
import os
import uuid
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UserError

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
COMPRESSED = frozenset(_OPENERS)


def size_of(path: Path) -> int:
    """Bytes of a file.

    Raises:
        ValueError: it is not there (any more).
    """
    return _states_of(path)[1]


def file_states(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """(absolute path, bytes, time of change in ns) of each file: one of the three differs when a file has changed.

    Raises:
        ValueError: one of them is not there (any more).
    """
    return [_states_of(path) for path in paths]


def _states_of(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return str(path.absolute()), state.st_size, state.st_mtime_ns


def open_bytes(path: Path, uncompress: bool = False) -> BinaryIO:
    """Open a file to read its bytes.

    Args:
        uncompress: read what a file with the suffix .gz, .bz2 or .xz holds, not its own bytes.

    Raises:
        ValueError: it is not there (any more), may not be read, or holds UTF-16; named.
    """
    with ExitStack() as stack:  # closes the file unless it is given out
        try:
            opener = _OPENERS.get(path.suffix.lower() if uncompress else "", open)
            file: BinaryIO = stack.enter_context(opener(path, "rb"))
            head = file.read(64)
            file.seek(0)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise _unreadable(path, error) from error
        in_pairs = len(head) > 3 and not (any(head[::2]) and any(head[1::2]))  # every other byte is 0
        if in_pairs or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UserError(f"{path} is not UTF-8: it looks like UTF-16 or UTF-32; convert it to UTF-8")
        stack.pop_all()
        return file


@contextmanager
def staged(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes `path` when the block ends without an error; until then nobody sees it.

    Each process writes a file of its own; of several, the one that ends last stays.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def not_utf8(path: Path, place: str, error: UnicodeDecodeError) -> UserError:
    """The error for a file with a byte that no UTF-8 text holds. place: where the byte is, "in line 3"."""
    byte = error.object[error.start]
    return UserError(f"{path} is not UTF-8: byte 0x{byte:02x} {place}; convert it to UTF-8")


def visible_files(root: Path) -> list[Path]:
    """All files in a folder, to any depth, sorted; files and folders whose names begin with a dot are left out."""
    return sorted(
        path
        for path in root.rglob("*")
        if not path.is_dir() and not any(name.startswith(".") for name in path.relative_to(root).parts)
    )


def suffix_of(path: Path) -> str:
    """A file's suffix in small letters; of a compressed file, the one before: .csv for a.CSV.gz."""
    return uncompressed_name(path).suffix


def uncompressed_name(path: Path) -> Path:
    """A file's name in small letters, without the suffix of its compression: a.csv for b/A.CSV.gz."""
    path = Path(path.name.lower())
    return path.with_suffix("") if path.suffix in COMPRESSED else path


def first_names(paths: Iterable[Path], root: Path | None = None) -> str:
    """Five names at most and how many more there are, for a message; relative to `root` where it is given."""
    names = [str(path if root is None else path.relative_to(root)) for path in paths]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


__all__ = [
    "COMPRESSED",
    "file_states",
    "first_names",
    "not_utf8",
    "open_bytes",
    "size_of",
    "staged",
    "suffix_of",
    "uncompressed_name",
    "visible_files",
]
