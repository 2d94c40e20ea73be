"""Pages whose tables are made from the stored results alone.

On a page a table stands between `<!-- stored: NAME -->` and `<!-- end -->`; `fill` puts it there, and a test compares.
"""

import re
from collections.abc import Callable
from pathlib import Path

from . import claims, tables
from .stored import Stored

_BLOCK = re.compile(r"(<!-- stored: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# "main-fashion" -> tables.main_fashion
TABLES: dict[str, Callable[[Stored], str]] = {
    name.replace("_", "-"): getattr(module, name)
    for module, names in (
        (tables, [name for name in tables.__all__ if name not in ("DATA", "cell", "count", "table")]),
        (claims, claims.__all__),
    )
    for name in names
}


def filled(text: str, stored: Stored) -> str:
    """A page with its tables made anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{TABLES[match[2]](stored)}\n\n{match[3]}", text)


def fill(page: Path, stored: Stored) -> None:
    page.write_text(filled(page.read_text("utf-8"), stored), "utf-8")


__all__ = ["TABLES", "fill", "filled"]
