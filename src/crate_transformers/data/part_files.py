"""Which part of the data each file of a folder belongs to, by its name."""

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .files import COMPRESSED
from .part_names import NAMES

_NAMED = {
    part: re.compile(
        rf"(?:{'|'.join(sorted(names, key=len, reverse=True))})(?:[ _-]?set)?(?![a-z])", re.IGNORECASE | re.ASCII
    )
    for part, names in NAMES.items()
}


def part_of(name: str) -> str | None:
    """The part that a file or folder is named after, without regard to case; None for another name.

    train, training: "train"; val, valid, validation, dev, development: "validation"; test, testing: "test". "_set" may
    follow, then anything but a letter: train-00001.csv and Test_Set.txt are named after a part, trainer.csv is not.
    """
    return next((part for part, word in _NAMED.items() if word.match(name)), None)


def files_below(root: Path) -> list[Path]:
    """All files in a folder and the folders in it, hidden ones aside, in order."""
    return sorted(
        path
        for path in root.rglob("*")
        if not path.is_dir() and not any(name.startswith(".") for name in path.relative_to(root).parts)
    )


def suffix_of(path: Path) -> str:
    """A file's suffix in small letters; of a compressed file, the one before: .csv for a.CSV.gz."""
    return _uncompressed(path).suffix


def _uncompressed(path: Path) -> Path:
    path = Path(path.name.lower())
    return path.with_suffix("") if path.suffix in COMPRESSED else path


def by_part(root: Path, paths: Iterable[Path]) -> tuple[dict[str, list[Path]], list[Path]]:
    """(files of each part, files of none), by the name of the file, or of the folder of `root` that it lies in."""
    parts: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in paths:
        part = part_of(_top(root, path))
        (others if part is None else parts.setdefault(part, [])).append(path)
    return parts, others


def check_parts(root: Path, parts: dict[str, list[Path]], kind: str) -> None:
    """See that the names leave no doubt about the parts.

    Raises:
        ValueError: two words for one part (val.csv, dev.csv); files of one name (train.json, train.jsonl); a part that
            has no file of the kind that is read, but one of another kind (test.tsv beside train.csv).
    """
    for part, found in parts.items():
        names = sorted({_top(root, path) for path in found})
        words = {match[0].lower() for name in names if (match := _NAMED[part].match(name))}
        stems = {_uncompressed(Path(name)).stem for name in names}
        if len(words) > 1 or len(stems) < len(names):
            raise UserError(f"{root} holds {', '.join(names)}: which of them is the {part} part? Keep one kind of name")
    for path in files_below(root):
        if (part_of(_top(root, path)) or "train") not in parts:
            raise UserError(
                f"{root} has no {kind} file for the {part_of(_top(root, path))} part, but {_top(root, path)}: convert "
                "it or move it away"
            )


def _top(root: Path, path: Path) -> str:
    return path.relative_to(root).parts[0]


def few(paths: Iterable[Path], root: Path | None = None) -> str:
    """The first names of some files, for a message; as they stand in `root`."""
    names = [str(path if root is None else path.relative_to(root)) for path in paths]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


__all__ = ["by_part", "check_parts", "few", "files_below", "part_of", "suffix_of"]
