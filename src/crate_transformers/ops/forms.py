"""The forms of an operator, and which of them is taken.

An operator is defined by its equation. A form gives the same numbers to rounding, faster, where its condition holds.
The forms of an operator are tried in their order, and the equation takes what is left. The user may narrow the choice:

    CRATE_FORMS=all         every form: compiled C++, Triton, oneDNN, torch's own operators (the default)
    CRATE_FORMS=torch       torch's own operators alone
    CRATE_FORMS=equation    the equations alone, as they are written

The environment is read once, when the library is imported; `use_forms` does the same within a scope.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from ..errors import UserError

Choice = Literal["equation", "torch", "all"]
Arguments = TypeVar("Arguments", bound=tuple[Any, ...])
Result = TypeVar("Result")


@dataclass(frozen=True)
class Form(Generic[Arguments, Result]):
    """One way to evaluate an operator.

    Attributes:
        name: what the form is called in tests and messages.
        evaluate: gives the operator's result of its arguments.
        takes: whether `evaluate` may be called with such arguments, and is worth it.
        is_torch: whether torch's own operators do the work; compiled code, Triton and oneDNN are not.

    Example:
        >>> form = Form("torch", lambda arguments: torch.relu(arguments[0]))
        >>> form.evaluate((torch.tensor([-1.0, 2.0]),)).tolist(), form.takes(())
        ([0.0, 2.0], True)
    """

    name: str
    evaluate: Callable[[Arguments], Result]
    takes: Callable[[Arguments], bool] = lambda _: True
    is_torch: bool = True


class Operator(Generic[Arguments, Result]):
    """An equation and its faster forms; called like the equation.

    Args:
        equation: the definition. Its name is that of the operator.
        arguments: a named tuple of the equation's arguments, which the forms read.
        forms: in the order in which they are tried.

    Example:
        >>> from crate_transformers.ops import linear
        >>> linear.name, [form.name for form in linear.forms]
        ('linear', ['oneDNN', 'torch'])
    """

    def __init__(self, equation: Callable[..., Result], arguments: type[Arguments], *forms: Form[Arguments, Result]):
        self.name = equation.__name__
        self.equation = equation
        self.arguments = arguments
        self.forms = forms
        OPERATORS[self.name] = self

    def __call__(self, *args: Any, **named: Any) -> Result:
        if _choice == "equation":
            return self.equation(*args, **named)
        arguments = self.arguments(*args, **named)
        for form in self.forms:
            if (form.is_torch or _choice == "all") and form.takes(arguments):
                return form.evaluate(arguments)
        return self.equation(*args, **named)


OPERATORS: dict[str, Operator[Any, Any]] = {}  # every operator of the library, by name


def _checked(choice: str) -> Choice:
    if choice not in get_args(Choice):
        raise UserError(f"CRATE_FORMS must be one of {', '.join(get_args(Choice))}, got {choice!r}")
    return cast(Choice, choice)


if "CRATE_NATIVE" in os.environ:
    warnings.warn("CRATE_NATIVE is not read any more: CRATE_FORMS=torch asks for torch's operators", stacklevel=2)

_choice: Choice = _checked(os.environ.get("CRATE_FORMS") or "all")


def current_choice() -> Choice:
    """Which forms operators take now."""
    return _choice


@contextmanager
def use_forms(choice: Choice) -> Iterator[None]:
    """Within the scope, operators take the equation alone, torch's forms, or all: "equation", "torch", "all".

    Raises:
        ValueError: another choice.

    Example:
        >>> with use_forms("equation"):
        ...     pass
    """
    global _choice
    before, _choice = _choice, _checked(choice)
    try:
        yield
    finally:
        _choice = before


__all__ = ["OPERATORS", "Choice", "Form", "Operator", "current_choice", "use_forms"]
