"""What lies in folders of pictures, as arrays: names, sizes, times of change, labels; made directory by directory.

The order is that of sorted paths: in each directory by name, files and directories alike.
"""

import os
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..kept import Texts
from ..parts import parts_among
from .finding import IMAGE_SUFFIXES, is_litter

UNREAD_SUFFIXES = frozenset(  # of pictures of kinds that Pillow does not read
    {".heic", ".heif", ".hif", ".jxl", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".exr"}
)
_GONE = -1  # size and time of what cannot be asked for them
_LOOKS = 1 << 14  # files that one thread asks for their state at a time


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder, and the directories that hold them.

    Attributes:
        root: the folder, absolute. names: of the files. folder: (n,) int32, the directory of each.
        sizes, changed: (n,) int64, bytes and time of change in ns; -1 where a file cannot be asked.
        labels: (n,) int64. folders: the directories, relative to the root; "" is the root itself.
        folders_changed: (directories,) int64, their times of change in ns, from before they were read.
        about: {"parts": {part: [first picture, one behind the last]}, "empty": {part: classes without a picture},
            "foreign": {part: some names of files that are no pictures}, "unread": {part: pictures of unread kinds}}.
    """

    root: str
    names: Texts
    folder: np.ndarray
    sizes: np.ndarray
    changed: np.ndarray
    labels: np.ndarray
    folders: Texts
    folders_changed: np.ndarray
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """The whole path of a picture."""
        return os.path.join(self.root, self.folders[int(self.folder[index])], self.names[index])

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name; `of_arrays` is the way back."""
        return {
            "names": self.names.content,
            "name_ends": self.names.ends,
            "folder": self.folder,
            "sizes": self.sizes,
            "changed": self.changed,
            "labels": self.labels,
            "folders": self.folders.content,
            "folder_ends": self.folders.ends,
            "folders_changed": self.folders_changed,
        }

    @classmethod
    def of_arrays(cls, root: str, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> "Listing":
        """The listing whose arrays these are."""
        names = Texts(arrays["names"], arrays["name_ends"])
        folders = Texts(arrays["folders"], arrays["folder_ends"])
        folder, sizes, changed, labels = (arrays[name] for name in ("folder", "sizes", "changed", "labels"))
        return cls(root, names, folder, sizes, changed, labels, folders, arrays["folders_changed"], about)

    def changed_since(self, files: bool) -> bool:
        """Whether a directory is another than when it was listed. files: whether each file is asked too."""
        for index in range(len(self.folders)):
            if _time_of(os.path.join(self.root, self.folders[index])) != self.folders_changed[index]:
                return True
        if not files:
            return False
        starts = range(0, len(self), _LOOKS)
        with ThreadPoolExecutor() as pool:
            return any(pool.map(lambda start: self._differs(start, min(start + _LOOKS, len(self))), starts))

    def _differs(self, start: int, stop: int) -> bool:
        states = [state_of(self.path(index)) for index in range(start, stop)]
        now = np.asarray(states, dtype=np.int64).reshape(-1, 2)
        return not np.array_equal(now, np.stack([self.sizes[start:stop], self.changed[start:stop]], axis=1))


def state_of(path: str) -> tuple[int, int]:
    """(bytes, time of change in ns) of a file; (-1, -1) where it cannot be asked."""
    try:
        state = os.stat(path)
    except OSError:
        return _GONE, _GONE
    return state.st_size, state.st_mtime_ns


def _time_of(path: str) -> int:
    return state_of(path)[1]


class _Sink:
    """Arrays that grow."""

    def __init__(self, root: Path):
        self.root = root
        self.names, self.name_ends = bytearray(), array("q")
        self.folder, self.sizes, self.changed, self.labels = array("i"), array("q"), array("q"), array("q")
        self.folders: list[str] = []
        self.folders_changed = array("q")

    def open_folder(self, path: str) -> int:
        """Note a directory that is about to be read, and give its number."""
        relative = os.path.relpath(path, self.root)
        self.folders.append("" if relative == "." else relative)
        self.folders_changed.append(_time_of(path))
        return len(self.folders) - 1

    def add(self, entry: os.DirEntry, folder: int, label: int) -> None:
        """Note a picture."""
        self.names += os.fsencode(entry.name)
        self.name_ends.append(len(self.names))
        size, changed = state_of(entry.path)
        self.folder.append(folder)
        self.sizes.append(size)
        self.changed.append(changed)
        self.labels.append(label)

    def listing(self, about: dict[str, Any]) -> Listing:
        """What was noted."""
        names = Texts(np.frombuffer(bytes(self.names), dtype=np.uint8), _numbers(self.name_ends, np.int64))
        return Listing(
            root=str(self.root),
            names=names,
            folder=_numbers(self.folder, np.int32),
            sizes=_numbers(self.sizes, np.int64),
            changed=_numbers(self.changed, np.int64),
            labels=_numbers(self.labels, np.int64),
            folders=Texts.of(self.folders),
            folders_changed=_numbers(self.folders_changed, np.int64),
            about=about,
        )


def _numbers(values: array, kind: type) -> np.ndarray:
    return np.frombuffer(values.tobytes(), dtype=kind) if len(values) else np.zeros(0, dtype=kind)


def list_parts(root: Path, parts: dict[str, Path], classes: list[str], most: tuple[int, int] | None) -> Listing | None:
    """List the pictures of PATH/CLASS/... of each part.

    Args:
        most: (pictures, bytes in all); a folder that has more is given up. None lists all.

    Returns:
        None where the folder has more.

    Raises:
        UserError: a directory that cannot be listed, or parts within a class; named.
    """
    sink = _Sink(root)
    for path in dict.fromkeys((root, *parts.values())):
        sink.open_folder(str(path))
    about: dict[str, dict[str, Any]] = {"parts": {}, "empty": {}, "foreign": {}, "unread": {}}
    held = 0
    for part, folder in parts.items():
        first, foreign, unread = len(sink.labels), list[str](), list[str]()
        empty: list[str] = []
        for label, name in enumerate(classes):
            if not (folder / name).is_dir():
                empty.append(name)
                continue
            before, within = len(sink.labels), set[str]()
            for entry, number, inner in _files_below(str(folder / name), sink, set()):
                suffix = os.path.splitext(entry.name)[1].lower()
                if suffix not in IMAGE_SUFFIXES:
                    foreign += [entry.name] if len(foreign) < 3 else []
                    unread += [entry.path] if suffix in UNREAD_SUFFIXES else []
                    continue
                sink.add(entry, number, label)
                within |= {inner} if inner else set()
                held += sink.sizes[-1]
                if most is not None and (len(sink.labels) > most[0] or held > most[1]):
                    return None
            _refuse_parts_within(folder / name, within)
            empty += [name] if len(sink.labels) == before else []
        about["parts"][part] = [first, len(sink.labels)]
        about["empty"][part], about["foreign"][part], about["unread"][part] = empty, foreign, unread
    return sink.listing(about)


def _files_below(
    place: str, sink: _Sink, seen: set[tuple[int, int]], inner: str = ""
) -> Iterator[tuple[os.DirEntry, int, str]]:
    """(file, number of its directory, directory right below the class or "") of every file, in the order of paths.

    Links to directories are followed, each directory once.
    """
    state = os.stat(place)
    if (state.st_dev, state.st_ino) in seen:
        return
    seen.add((state.st_dev, state.st_ino))
    number = sink.open_folder(place)
    try:
        with os.scandir(place) as found:
            entries = sorted((entry for entry in found if not is_litter(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.is_dir():
            yield from _files_below(entry.path, sink, seen, inner or entry.name)
        else:
            yield entry, number, inner


def _refuse_parts_within(class_folder: Path, inside: set[str]) -> None:
    """Refuse CLASS/PART/IMAGE, whose parts would be mixed."""
    parts, _ = parts_among(sorted(inside), str(class_folder))
    if "train" in parts and len(parts) > 1:
        raise UserError(
            f"{class_folder} holds the parts {', '.join(parts.values())}: expected PATH/PART/CLASS/IMAGE, parts above "
            "classes"
        )


__all__ = ["Listing", "list_parts", "state_of"]
