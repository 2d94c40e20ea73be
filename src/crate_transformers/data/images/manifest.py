"""The manifest of a folder of pictures: its listing and its damaged files.

The manifest of a small folder is made at every start, in memory. That of a large one is kept: one process makes it,
over all cores, the others wait (kept.py), and the next start reads it. It lies outside of the folder, which may be
read-only. A start asks every directory for its time of change, and of a folder of moderate size every file; where one
differs, the folder is listed again, and only blocks of pictures with a change are decoded again. In a run a picture of
another size or time of change than its manifest says ends the run, by name.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...files import user_path
from ..kept import Kept, kept, opened
from .checking import Block, check_blocks, read_notes
from .listing import Listing, list_parts, state_of

_SMALL = (2000, 100 << 20)  # pictures, bytes: a folder of no more is looked through at every start
_ASKED = 1 << 16  # of a folder of no more pictures each is asked for its size and time of change at a start
_BLOCK = 256  # pictures that are noted as checked together
_FORMAT = 1
_STALE = "stale"  # a file in a version, where a run met a picture that is not as it says


@dataclass(frozen=True)
class Manifest:
    """The pictures of a folder, and what is wrong with some.

    Attributes:
        listing: the pictures. bad: {index: reason} of those that cannot be decoded.
        version: the folder of its arrays; None where it is not kept. notes: sentences for the user.
    """

    listing: Listing
    bad: dict[int, str]
    version: Path | None = None
    notes: tuple[str, ...] = ()

    def path(self, index: int) -> str:
        """The path of a picture that is as the manifest says.

        Raises:
            UserError: its size or its time of change is another.
        """
        listing, path = self.listing, self.listing.path(index)
        if self.version is None or state_of(path) == (listing.sizes[index], listing.changed[index]):
            return path
        with suppress(OSError):
            (self.version / _STALE).touch()
        raise UserError(
            f"{path} has changed since {listing.root} was looked through, or is gone: put it back, or start again, "
            "which looks at what has changed"
        )


def manifest_of(
    root: Path,
    parts: dict[str, Path],
    classes: list[str],
    manifest_dir: str | Path | None,
    problem: Callable[[str], str | None],
) -> Manifest:
    """The manifest of a folder; kept where it is large, or where `manifest_dir` is given.

    Args:
        parts: {part: its folder}. classes: the names of the folders in each.
        manifest_dir: the folder of kept manifests; None is the user's cache.
        problem: why a file cannot be decoded; None where it can.

    Raises:
        UserError: a directory that cannot be listed, parts within a class, or a checking process that was killed.
    """
    root = Path(os.path.abspath(root))
    parts = {part: root / os.path.relpath(folder, root) for part, folder in parts.items()}
    place = kept_place(root, manifest_dir)
    if manifest_dir is None and opened(place) is None:
        listing = list_parts(root, parts, classes, _SMALL)
        if listing is not None:
            return Manifest(listing, _damaged(listing, problem, None))
    about = {"format": _FORMAT, "root": str(root), "classes": classes, "folders": {p: str(f) for p, f in parts.items()}}
    seen: list[bool] = []

    def is_current(version: Kept) -> bool:
        """Whether the folder is as this version says."""
        seen.append(_is_current(version, about))
        return seen[-1]

    def make(work: Path, before: Kept | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """List and check the folder."""
        listing = list_parts(root, parts, classes, None)
        assert listing is not None
        known = set(read_notes(work / "checked.jsonl"))
        fresh = sum(block.stop - block.start for block in _blocks(listing) if block.digest not in known)
        bad = _damaged(listing, problem, work / "checked.jsonl")
        said = f"{len(listing):,} pictures now, {fresh:,} of them decoded anew"
        return {**about, "listing": listing.about, "bad": list(bad.items()), "said": said}, listing.arrays()

    try:
        version = kept(place, is_current, make)
    except OSError as error:
        listing = list_parts(root, parts, classes, None)
        assert listing is not None
        said = f"the manifest of {root} cannot be kept in {place} ({error.strerror}): every start of every process "
        note = f"{said}looks through the folder; set data.manifest_dir to a folder that can be written"
        return Manifest(listing, _damaged(listing, problem, None), notes=(note,))
    notes = (f"{root} has changed since its manifest was made: {version.about['said']}",) if False in seen else ()
    listing = Listing.of_arrays(str(root), version.arrays, version.about["listing"])
    return Manifest(listing, dict(version.about["bad"]), version.folder, notes)


def kept_place(root: Path, manifest_dir: str | Path | None) -> Path:
    """The folder of the arrays of a data set that lies at `root`.

    Raises:
        UserError: `manifest_dir` is a file.
    """
    if manifest_dir is not None:
        home = user_path(manifest_dir)
        if home.exists() and not home.is_dir():
            raise UserError(f"data.manifest_dir {home} is a file: name a folder")
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crate_transformers" / "manifests"
    digest = hashlib.blake2b(os.fsencode(root), digest_size=8).hexdigest()
    return home / f"{root.name}-{digest}"


def _is_current(version: Kept, about: dict[str, Any]) -> bool:
    if any(version.about.get(name) != value for name, value in about.items()) or (version.folder / _STALE).exists():
        return False
    listing = Listing.of_arrays(about["root"], version.arrays, version.about["listing"])
    return not listing.changed_since(files=len(listing) <= _ASKED)


def _damaged(listing: Listing, problem: Callable[[str], str | None], notes: Path | None) -> dict[int, str]:
    return check_blocks(_blocks(listing), lambda index: problem(listing.path(index)), notes, listing.root)


def _blocks(listing: Listing) -> list[Block]:
    """Runs of pictures of one directory, of bounded length."""
    edges = np.flatnonzero(np.diff(listing.folder)) + 1
    blocks: list[Block] = []
    for first, last in zip([0, *edges], [*edges, len(listing)], strict=True):
        for start in range(int(first), int(last), _BLOCK):
            stop = min(start + _BLOCK, int(last))
            state = hashlib.blake2b(listing.folders[int(listing.folder[start])].encode("utf-8", "surrogateescape"))
            state.update(listing.names.bytes_of(start, stop))
            for values in (listing.sizes, listing.changed):
                state.update(values[start:stop].tobytes())
            state.update(str(stop - start).encode())
            blocks.append(Block(start, stop, state.hexdigest()[:24]))
    return blocks


__all__ = ["Manifest", "kept_place", "manifest_of"]
