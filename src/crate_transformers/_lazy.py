"""What is loaded when it is first asked for: names of a package, and things named by their place."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, places: Mapping[str, str], rooms: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`. places: name -> the module of the package that holds it. rooms: modules that are names
            themselves.
    """
    rooms = tuple(rooms)

    def get(name: str) -> Any:
        if name in places:
            value = getattr(import_module(f".{places[name]}", package), name)
            setattr(sys.modules[package], name, value)
            return value
        if name in rooms:
            return import_module(f".{name}", package)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places, *rooms})

    return get, names


def load_by_name(place: str) -> Any:
    """What stands at "module:name"; the module is loaded where it is not yet."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


__all__ = ["lazy_names", "load_by_name"]
