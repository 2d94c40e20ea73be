"""The commands of `crate`, in the order of its help page. A new command is a file beside this one and a line here."""

from collections.abc import Callable
from typing import Any

from .convert import convert
from .inspect import inspect
from .train import recipes, train

COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train,
    "recipes": recipes,
    "convert": convert,
    "inspect": inspect,
}

__all__ = ["COMMANDS"]
