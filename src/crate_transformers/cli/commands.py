"""The commands of `crate`, in the order of its help page. A new command is a file beside this one and a line here."""

from collections.abc import Callable
from typing import Any

from .convert import convert

COMMANDS: dict[str, Callable[..., Any]] = {
    "convert": convert,
}

__all__ = ["COMMANDS"]
