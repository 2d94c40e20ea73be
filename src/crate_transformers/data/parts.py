"""The parts of a data set, train, validation and test: what they are called, and which file belongs to which."""

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .files import uncompressed_name, visible_files

_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
}
_PARTS = {name: part for part, names in _NAMES.items() for name in names}
_WORD = "|".join(sorted(_PARTS, key=len, reverse=True))
_WHOLE_NAME = re.compile(rf"({_WORD})([ _-]?(set|dataset|data|images|split))?", re.IGNORECASE)
_WITHIN = re.compile(rf"(?<![a-zA-Z])(?i:{_WORD})(?![a-z])")
_AT_START = {
    part: re.compile(
        rf"(?:{'|'.join(sorted(names, key=len, reverse=True))})(?:[ _-]?set)?(?![a-z])", re.IGNORECASE | re.ASCII
    )
    for part, names in _NAMES.items()
}

UNDERSTOOD = (
    f"the names of parts are {', '.join('/'.join(names) for names in _NAMES.values())}, in upper or lower case, also "
    "with _set, _data, _images or _split"
)


def parts_among(names: Iterable[str], place: str) -> tuple[dict[str, str], list[str]]:
    """Which of some names are whole names of a part, as "Training_Set" is of train.

    Args:
        names: of folders or splits. place: where they are, for the message.

    Returns:
        {part: its name}, and the names that are no part's.

    Raises:
        UserError: two names for one part of `place`.
    """
    parts: dict[str, str] = {}
    others: list[str] = []
    for name in names:
        match = _WHOLE_NAME.fullmatch(name)
        if match is None:
            others.append(name)
        elif (part := _PARTS[match[1].lower()]) in parts:
            raise UserError(f"{place} has {parts[part]} and {name}, which both mean its {part} part: keep one of them")
        else:
            parts[part] = name
    return parts, others


def seem_parts(names: Iterable[str]) -> list[str]:
    """Names that differ only in the word for a part, as train2017 and val2017 do; none where no word means train."""
    alike: dict[str, dict[str, str]] = {}
    for name in names:
        if match := _WITHIN.search(name):
            rest = name[: match.start()] + "*" + name[match.end() :]
            alike.setdefault(rest.lower(), {})[_PARTS[match[0].lower()]] = name
    return [name for same in alike.values() if "train" in same and len(same) > 1 for name in same.values()]


def part_of(name: str) -> str | None:
    """The part that a file or folder is named after, without regard to case; None for another name.

    train, training: "train"; val, valid, validation, dev, development: "validation"; test, testing: "test". "_set" may
    follow, then anything but a letter: train-00001.csv and Test_Set.txt are named after a part, trainer.csv is not.
    """
    return next((part for part, word in _AT_START.items() if word.match(name)), None)


def by_part(root: Path, paths: Iterable[Path]) -> tuple[dict[str, list[Path]], list[Path]]:
    """(files of each part, files of none), by the name of the file, or of the folder in `root` that holds it."""
    parts: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in paths:
        part = part_of(_top(root, path))
        (others if part is None else parts.setdefault(part, [])).append(path)
    return parts, others


def check_parts(root: Path, parts: dict[str, list[Path]], kind: str) -> None:
    """Refuse names that leave a doubt about the parts.

    Args:
        parts: the files of each, as `by_part` gives them. kind: of the files that are read, for the message.

    Raises:
        ValueError: two words for one part (val.csv, dev.csv); files of one name (train.json, train.jsonl); a part that
            has no file of the kind that is read, but one of another kind (test.tsv beside train.csv).
    """
    for part, found in parts.items():
        names = sorted({_top(root, path) for path in found})
        words = {match[0].lower() for name in names if (match := _AT_START[part].match(name))}
        stems = {uncompressed_name(Path(name)).stem for name in names}
        if len(words) > 1 or len(stems) < len(names):
            raise UserError(f"{root} holds {', '.join(names)}: which of them is the {part} part? Keep one kind of name")
    for path in visible_files(root):
        if (part_of(_top(root, path)) or "train") not in parts:
            raise UserError(
                f"{root} has no {kind} file for the {part_of(_top(root, path))} part, but {_top(root, path)}: convert "
                "it or move it away"
            )


def _top(root: Path, path: Path) -> str:
    return path.relative_to(root).parts[0]


__all__ = ["UNDERSTOOD", "by_part", "check_parts", "part_of", "parts_among", "seem_parts"]
