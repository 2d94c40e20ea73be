"""Checks of the keys and values of a recipe, and the messages for those that do not fit.

Every check raises a `RecipeError`, which holds its key, so that the reader of a file can add where the key stands.
"""

import difflib
import math
import typing
from collections.abc import Iterable

from ..errors import UserError


class RecipeError(UserError):
    """A key of a recipe, or its value, does not fit.

    Attributes:
        key: "section.name", or "section" where the whole section does not fit.
    """

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


# -- keys -------------------------------------------------------------------------------------------------------------


def check_key(section: str, name: object, known: Iterable[str]) -> None:
    """Check that a key of a section ("": the recipe itself) is one of the known ones.

    Raises:
        RecipeError: with the nearest known key.
    """
    known = list(known)
    if name not in known:
        key = f"{section}.{name}" if section else str(name)
        raise RecipeError(key, f"unknown key {key[:80]} in {section or 'the recipe'}{near(str(name)[:80], known)}")


def check_choice(key: str, value: object, known: Iterable[str]) -> None:
    """Check that a value is one of the known ones.

    Raises:
        RecipeError: with the known values.
    """
    known = list(known)
    if value not in known:
        raise RecipeError(
            key, f"{key} must be one of {', '.join(known)}, got {shown(value)}{near(str(value)[:80], known)}"
        )


# -- values -----------------------------------------------------------------------------------------------------------


def check_kind(key: str, value: object, annotation: str) -> None:
    """Check that a value is of the kind that its annotation ("int", "list[float] | None") names.

    Raises:
        RecipeError: with the annotation.
    """
    if not _fits(value, annotation):
        raise RecipeError(key, f"{key} must be {annotation}, got {shown(value)}")


def parts_of_kind(annotation: str) -> list[str]:
    """The kinds that an annotation allows: ["int", "None"] for "int | None"."""
    return [part.strip() for part in annotation.split("|")]


def _fits(value: object, annotation: str) -> bool:
    return any(_fits_part(value, part) for part in parts_of_kind(annotation))


def _fits_part(value: object, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits_part(item, kind[5:-1]) for item in value)
    if kind.startswith("dict"):
        return isinstance(value, dict)
    if kind == "None" or isinstance(value, bool):
        return value is None or (kind == "bool" and isinstance(value, bool))
    if kind == "str":
        return isinstance(value, str)
    if kind not in ("int", "float"):
        return False
    return (isinstance(value, int) or (kind == "float" and isinstance(value, float))) and is_finite(value)


def is_finite(value: int | float) -> bool:
    """Whether a number is finite; an integer beyond the range of floats is not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


# -- words ------------------------------------------------------------------------------------------------------------


def type_text(annotation: object) -> str:
    """A type as it is written: "int", "list[float] | None", "one of cls, mean"."""
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    return annotation.__name__ if isinstance(annotation, type) and type(annotation) is type else str(annotation)


def shown(value: object) -> str:
    """The text of a value in a message: one line of bounded length."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def near(word: str, known: Iterable[str]) -> str:
    """The end of a message: a question for the known word that is nearest, or nothing where none is near."""
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
