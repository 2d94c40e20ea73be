"""Limits of the value of one key beyond its kind: a range, a choice, a length."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .checks import RecipeError, check_choice, shown


@dataclass(frozen=True)
class Limits:
    """The limits of a value. Those of a number hold for each number of a list; None is always within the limits.

    Attributes:
        least, most: the range of a number, both ends included.
        below: the upper end of the range, excluded; the lower end is `least`.
        positive: whether a number must be above 0.
        choices: the texts that are allowed.
        length: the length of a list.
        further: another check, called with the key and a value that is within all other limits; raises RecipeError.
    """

    least: float = -math.inf
    most: float = math.inf
    below: float | None = None
    positive: bool = False
    choices: tuple[str, ...] = ()
    length: int | None = None
    further: Callable[[str, Any], None] | None = None

    def check(self, key: str, value: object) -> None:
        """Check that a value is within the limits.

        Raises:
            RecipeError: with the key and its limits.
        """
        if value is None:
            return
        if self.choices:
            check_choice(key, value, self.choices)
        for number in value if isinstance(value, list) else [value]:
            expected = self._expected(number)
            if expected is not None:
                raise RecipeError(key, f"{key} must be {expected}, got {shown(value)}")
        if isinstance(value, list) and self.length is not None and len(value) != self.length:
            raise RecipeError(key, f"{key} must be a list of {self.length} numbers, got {shown(value)}")
        if self.further is not None:
            self.further(key, value)

    def said(self) -> str:
        """The limits in words: "at least 0", "one of adamw, lion"; "" where there are none but a further check.

        Example:
            >>> Limits(0, below=1).said(), Limits(length=2).said()
            ('in [0, 1)', '2 of them')
        """
        parts = []
        if self.choices:
            parts.append(f"one of {', '.join(self.choices)}")
        if self.positive:
            parts.append("above 0")
        elif self.below is not None:
            parts.append(f"in [{self.least:g}, {self.below:g})")
        elif self.most < math.inf:
            parts.append(f"in [{self.least:.10g}, {self.most:.10g}]")
        elif self.least > -math.inf:
            parts.append(f"at least {self.least:g}")
        if self.length is not None:
            parts.append(f"{self.length} of them")
        return ", ".join(parts)

    def _expected(self, number: object) -> str | None:
        """The range of a number that is out of it; None for one that is within it, and for what is no number."""
        if not isinstance(number, int | float) or isinstance(number, bool):
            return None
        if self.positive:
            return None if number > 0 else "positive"
        if self.below is not None:
            return None if self.least <= number < self.below else f"in [{self.least}, {self.below})"
        if number < self.least and self.most == math.inf:
            return f"at least {self.least}"
        return None if self.least <= number <= self.most else f"in [{self.least}, {self.most}]"


__all__ = ["Limits"]
