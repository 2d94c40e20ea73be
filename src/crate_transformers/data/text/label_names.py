"""Names of classes, as the training rows have them, and the place of every label among them."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import UserError

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


class LabelNames:
    """Label names, in order; None for a regression (labels that are numbers with fractions).

    The names are those of a hub data set's ClassLabel, whose labels are indices, or else the labels themselves: whole
    numbers in the order of numbers, text in the order of letters.

    Args:
        written: labels come from a csv file, which writes numbers as text: "0.5" and "1" are numbers of a regression,
            "0" and "01" are names.
    """

    def __init__(self, written: bool = False):
        self.written = written
        self.names: list[str] | None = None
        self._places: dict[str, int] = {}
        self._are_indices = False
        self._are_several: bool | None = None

    def check_several(self, are_several: bool, where: str) -> None:
        """See that rows have one label each, or a list of labels each, in all parts.

        Raises:
            ValueError: a part that differs from the first.
        """
        if self._are_several not in (None, are_several):
            kinds = {True: "a list of labels", False: "one label"}
            raise UserError(
                f"{where} has {kinds[are_several]}, rows of the training part have {kinds[not are_several]}"
            )
        self._are_several = are_several

    def learn(self, feature: object, labels: Sequence[Any], where: Callable[[int], str], may_be_numbers: bool) -> None:
        """Take the names from the training part.

        Args:
            feature: of the column, as `datasets` has it. labels: all of them, without gaps. where(i): label i in words.
            may_be_numbers: whether the task can be a regression.

        Raises:
            ValueError: labels of several types; numbers with fractions where classes are needed; a few labels that are
                no numbers among many that are.
        """
        of_hub = getattr(getattr(feature, "feature", feature), "names", None)
        if of_hub:
            names, self._are_indices = list(of_hub), True
        else:
            if self._are_numbers(labels, where):
                if not may_be_numbers:
                    raise UserError(f"{where(0)}: label {labels[0]!r} is a number with a fraction, expected a class")
                return
            names = _in_order(set(labels), self.written)
        self.names, self._places = names, {name: index for index, name in enumerate(names)}

    def _are_numbers(self, labels: Sequence[Any], where: Callable[[int], str]) -> bool:
        for index, label in enumerate(labels):
            if type(label) is not type(labels[0]) or not isinstance(label, str | int | float):
                raise UserError(f"{where(index)}: label {label!r} is no class name like {labels[0]!r}")
        if not self.written:
            return isinstance(labels[0], float)
        are_numbers = [_NUMBER.fullmatch(label) is not None for label in labels]
        if all(map(_WHOLE.fullmatch, labels)) or 2 * sum(are_numbers) < len(labels):
            return False
        has_fractions = any(one and not _WHOLE.fullmatch(label) for one, label in zip(are_numbers, labels, strict=True))
        if has_fractions and not all(are_numbers):
            odd = are_numbers.index(False)
            raise UserError(
                f"{where(odd)}: label {labels[odd]!r} is no number, though most labels are, with fractions: for a "
                "regression take such rows out, for classes give them names that are no numbers"
            )
        return has_fractions

    def index(self, label: object, where: str) -> int | float:
        """Place of a label among the names; the number itself in a regression.

        Raises:
            ValueError: a label that the training part lacks; an index that is none; no finite number. where: in words.
        """
        if self.names is None:
            return self._number(label, where)
        if self._are_indices and isinstance(label, int):
            if not 0 <= label < len(self.names):
                raise UserError(
                    f"{where}: label {label} is none of the {len(self.names)} classes, 0 to "
                    f"{len(self.names) - 1}; take out the rows without a class"
                )
            return label
        if str(label) not in self._places:
            raise UserError(
                f"{where}: label {label!r} does not occur in the training part: expected one of {self.names[:10]}"
            )
        return self._places[str(label)]

    def _number(self, label: object, where: str) -> float:
        is_number = _NUMBER.fullmatch(label) if isinstance(label, str) and self.written else type(label) in (int, float)
        number = float(str(label)) if is_number else math.nan
        if not math.isfinite(number):
            raise UserError(f"{where}: label {label!r} is no finite number, the labels of the training part are")
        return number

    def are_missing(self, labels: Iterable[Any]) -> bool:
        """Whether none of these labels is one: all are empty, or -1 where that is no class."""
        return all(label is None or label == "" or (label == -1 and "-1" not in self._places) for label in labels)


def _in_order(labels: set[Any], written: bool) -> list[str]:
    if written and all(map(_WHOLE.fullmatch, labels)):
        return sorted(labels, key=lambda label: (int(label), label))
    return [str(label) for label in sorted(labels)]


__all__ = ["LabelNames"]
