"""Image files in folders: what counts as one, and what lies there and is none of the user's data."""

import os
from collections.abc import Iterable
from pathlib import Path

from ...errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
    | {".pbm", ".pnm", ".avif", ".jp2"}
)
_LITTER = frozenset({"__MACOSX", "@eaDir"})  # of archives made on a Mac, of network drives: copies and thumbnails


def is_litter(name: str) -> bool:
    """Whether a file or folder is none of the user's data: it begins with a dot, or is known litter of a system."""
    return name.startswith(".") or name in _LITTER


def files_below(folder: Path) -> list[Path]:
    """Every file in a folder, to any depth, sorted; litter is left out, links to folders are followed, each once.

    Raises:
        UserError: a folder that cannot be listed; named.
    """

    def refuse(error: OSError) -> None:
        """Raise what `os.walk` would pass over."""
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error

    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        if os.path.realpath(here) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(here))
        found += [Path(here, name) for name in files if not is_litter(name)]
    return sorted(found)


def find_images(places: Iterable[str | Path]) -> list[Path]:
    """Image files, named or in folders (searched to any depth, without hidden ones), sorted within each folder.

    Raises:
        UserError: a place that does not exist or cannot be listed, or nothing found.
    """
    found: list[Path] = []
    folders_or_files = [Path(place) for place in places]
    for place in folders_or_files:
        if place.is_dir():
            found += [path for path in files_below(place) if path.suffix.lower() in IMAGE_SUFFIXES]
        elif place.is_file():
            found.append(place)
        else:
            raise UserError(f"no image file or folder at {place}")
    if not found:
        raise UserError(f"no image in {', '.join(map(str, folders_or_files))}")
    return found


__all__ = ["IMAGE_SUFFIXES", "files_below", "find_images", "is_litter"]
