"""Arrays that are made once, kept on disk and mapped into memory by every process that reads them.

A folder of kept arrays holds `current.json`, which names one of its versions; a version is a folder of .npy files with
`about.json`, which is written last. A version is made beside its place and renamed into it, then `current.json` is
replaced: a reader sees the old version or the new one, whole. One process makes a version, the one that holds the lock
of the folder (lock.py); the others, on this machine or on others that share the disk, wait for it. What a maker leaves
in the folder `work` is there for the next one, so that one that was killed loses little.
"""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_bytes
from ..lock import HeldError, locked

_CURRENT, _ABOUT, _WORK = "current.json", "about.json", "work"
_POLL_S = 0.2
_MAPPED_BYTES = 1 << 16  # a smaller array is read: mapping it would gain nothing


@dataclass(frozen=True)
class Kept:
    """One version. about: what its maker said of it. arrays: by name; they may be written to, which changes no file."""

    folder: Path
    about: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Texts:
    """Many texts in two arrays: the bytes of all, and where each ends.

    Example:
        >>> texts = Texts.of(["ant", "bee"])
        >>> len(texts), texts[1]
        (2, 'bee')
    """

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """The arrays (bytes,) uint8 and (n,) int64 of some texts; bytes that are no UTF-8 keep their place."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        content = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(content, np.cumsum([len(text) for text in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return self.content[start : int(self.ends[index])].tobytes().decode("utf-8", "surrogateescape")

    def bytes_of(self, start: int, stop: int) -> bytes:
        """The bytes of the texts from one place to another."""
        first, last = (int(self.ends[place - 1]) if place else 0 for place in (start, stop))
        return self.content[first:last].tobytes()


def kept(
    folder: Path,
    is_current: Callable[[Kept], bool],
    make: Callable[[Path, Kept | None], tuple[dict[str, Any], dict[str, np.ndarray]]],
) -> Kept:
    """The current version of a folder of arrays; made here where there is none, unless another process makes it.

    Args:
        folder: made where it is missing. is_current: whether a version still says what is true.
        make: (a folder to work in, the version that is out of date or None) -> (about, arrays).

    Raises:
        OSError: the folder cannot be written. Whatever `make` raises.
    """
    while True:
        version = opened(folder)
        if version is not None and is_current(version):
            return version
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with locked(folder):
                newer = opened(folder)  # another process may have ended between our look and our turn
                if newer is not None and (version is None or newer.folder != version.folder) and is_current(newer):
                    return newer
                work = folder / _WORK
                work.mkdir(exist_ok=True)
                about, arrays = make(work, version)
                return _publish(folder, about, arrays)
        except HeldError:
            time.sleep(_POLL_S)


def opened(folder: Path) -> Kept | None:
    """The current version; None where there is none, or where it is not whole."""
    try:
        name = json.loads((folder / _CURRENT).read_text(encoding="utf-8"))["version"]
        about = json.loads((folder / name / _ABOUT).read_text(encoding="utf-8"))
        arrays = {entry: _mapped(folder / name / f"{entry}.npy") for entry in about.pop("arrays")}
        return Kept(folder / name, about, arrays)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="c" if path.stat().st_size > _MAPPED_BYTES else None, allow_pickle=False)


def _publish(folder: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Kept:
    for leftover in folder.glob(".making-*"):  # of makers that were killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    before = sorted(folder.glob("version-*"), key=lambda path: path.stat().st_mtime_ns)
    name = f"version-{uuid.uuid4().hex[:12]}"
    staging = folder / f".making-{name}"
    staging.mkdir()
    for entry, array in arrays.items():
        np.save(staging / f"{entry}.npy", array)
    write_bytes(staging / _ABOUT, json.dumps({**about, "arrays": sorted(arrays)}).encode())
    staging.rename(folder / name)
    write_bytes(folder / _CURRENT, json.dumps({"version": name}).encode())
    for old in before[:-1]:  # the one before may be in use elsewhere
        with suppress(OSError):
            shutil.rmtree(old)
    version = opened(folder)
    assert version is not None
    return version


__all__ = ["Kept", "Texts", "kept", "opened"]
