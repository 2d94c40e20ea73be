"""The stored first view: what the page shows of the demonstration's first picture before the model is open."""

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .service import Service

PARTS = ("tokens", "prediction", "ladder", "maps", "shares")  # what the page asks at its start


def first_view() -> Path:
    """The file that comes with the package."""
    return Path(__file__).parents[1] / "demo" / "first.bin.gz"


def make_first_view(service: "Service") -> bytes:
    """The content of the file: the answers to the page's first two questions, packed and compressed."""
    from .answers import together
    from .packing import pack
    from .state import State

    state = State()
    answers = [service.describe(state).within("describe"), service.answer(state, PARTS).within("answer")]
    return gzip.compress(pack(together(answers)), mtime=0)


__all__ = ["PARTS", "first_view", "make_first_view"]
