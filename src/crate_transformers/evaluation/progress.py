"""How long work tells how far it is."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Passes items on, and may show how many of them are done."""

    def __call__(self, items: Iterable[Item], count: int, what: str) -> Iterator[Item]:
        """`count` items, of which `what` is done."""
        ...


def unchanged(items: Iterable[Item], count: int, what: str) -> Iterator[Item]:
    """The items, and nothing told."""
    return iter(items)


__all__ = ["Progress", "unchanged"]
