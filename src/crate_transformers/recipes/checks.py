"""What the keys and values of a recipe may be, and the words in which one that does not fit is refused.

Every refusal is a `RecipeError`, which knows its key, so that whoever read the recipe from a file can say where it is.
"""

import difflib
import math
import typing
from collections.abc import Iterable
from typing import Any

from ..errors import UserError


class RecipeError(UserError):
    """A key of a recipe, or its value, does not fit.

    Attributes:
        key: "section.name", or "section".
    """

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


# -- keys -------------------------------------------------------------------------------------------------------------


def check_key(section: str, name: Any, known: Iterable[str]) -> None:
    """A key of a section ("": the recipe itself) must be one of the known ones."""
    known = list(known)
    if name not in known:
        key = f"{section}.{name}" if section else str(name)
        raise RecipeError(key, f"unknown key {key[:80]} in {section or 'the recipe'}{near(str(name)[:80], known)}")


def check_choice(key: str, value: Any, known: Iterable[str]) -> None:
    """A value must be one of the known ones."""
    known = list(known)
    if value not in known:
        raise RecipeError(
            key, f"{key} must be one of {', '.join(known)}, got {shown(value)}{near(str(value)[:80], known)}"
        )


# -- values -----------------------------------------------------------------------------------------------------------


def check_kind(key: str, value: Any, annotation: str) -> None:
    """A value must be of the kind that its annotation ("int", "list[float] | None") names."""
    if not _fits(value, annotation):
        raise RecipeError(key, f"{key} must be {annotation}, got {shown(value)}")


def parts_of_kind(annotation: str) -> list[str]:
    """ "int | None" -> ["int", "None"]."""
    return [part.strip() for part in annotation.split("|")]


def _fits(value: Any, annotation: str) -> bool:
    return any(_fits_part(value, part) for part in parts_of_kind(annotation))


def _fits_part(value: Any, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits_part(item, kind[5:-1]) for item in value)
    if kind.startswith("dict"):
        return isinstance(value, dict)
    if kind == "None" or isinstance(value, bool):
        return value is None or (kind == "bool" and isinstance(value, bool))
    if kind == "str":
        return isinstance(value, str)
    is_number = isinstance(value, int) or (kind == "float" and isinstance(value, float))
    return kind in ("int", "float") and is_number and is_finite(value)


def is_finite(value: int | float) -> bool:
    """Whether a number is finite, and an integer one that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


# -- words ------------------------------------------------------------------------------------------------------------


def type_text(annotation: Any) -> str:
    """A type as it is written: "int", "list[float] | None", "one of cls, mean"."""
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    return annotation.__name__ if type(annotation) is type else str(annotation)


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, of bounded length."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def near(word: str, known: Iterable[str]) -> str:
    """The end of a message: the known word that is nearest, where one is near."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


__all__ = [
    "RecipeError",
    "check_choice",
    "check_key",
    "check_kind",
    "is_finite",
    "near",
    "parts_of_kind",
    "shown",
    "type_text",
]
