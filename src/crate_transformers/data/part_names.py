"""What the parts of a data set are called: train, validation and test, by the names in use."""

import re
from collections.abc import Iterable

from ..errors import UserError

NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing"),
}
_PARTS = {name: part for part, names in NAMES.items() for name in names}
_WORD = "|".join(sorted(_PARTS, key=len, reverse=True))
_WHOLE_NAME = re.compile(rf"({_WORD})([ _-]?(set|dataset|data|images|split))?", re.IGNORECASE)
_WITHIN = re.compile(rf"(?<![a-zA-Z])(?i:{_WORD})(?![a-z])")

UNDERSTOOD = (
    f"the names of parts are {', '.join('/'.join(names) for names in NAMES.values())}, in upper or lower case, also "
    "with _set, _data, _images or _split"
)


def parts_among(names: Iterable[str], place: str) -> tuple[dict[str, str], list[str]]:
    """({part: its name}, the names that are no part's).

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
    """Names that differ in nothing but the word for the part, training among them: train2017 and val2017."""
    alike: dict[str, dict[str, str]] = {}
    for name in names:
        if match := _WITHIN.search(name):
            rest = name[: match.start()] + "*" + name[match.end() :]
            alike.setdefault(rest.lower(), {})[_PARTS[match[0].lower()]] = name
    return [name for same in alike.values() if "train" in same and len(same) > 1 for name in same.values()]


__all__ = ["NAMES", "UNDERSTOOD", "parts_among", "seem_parts"]
