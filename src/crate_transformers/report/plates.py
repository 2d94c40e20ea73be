"""A plate: a figure with its caption, as files and on a page."""

import html
import io
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..files import write_bytes
from .canvas import draw_as_written
from .page import data_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["png", "svg"]
FIGURE_FORMATS: tuple[Kind, ...] = ("png", "svg")
_MEDIA = {"png": "image/png", "svg": "image/svg+xml"}
_DPI = 160
_CAPTION_POINTS = 7.5


@dataclass(frozen=True)
class Plate:
    """A figure, the name of its files, a caption: what was measured, on what, in which mode, by which version.

    drawn: html that takes the figure's place on a page; "" is the figure itself. Where it needs scripts, it holds the
    figure (`html` of the plate without it) for where there are none. told: its caption, where that is another.
    """

    name: str
    figure: "Figure"
    caption: str
    drawn: str = ""
    told: str = ""

    def render(self, kind: Kind, captioned: bool = True) -> bytes:
        """The figure as a file of kind "png" or "svg", with its caption under it or not."""
        if self.figure.get_layout_engine() is not None:  # lay out once, with the caption, and keep that
            characters = max(40, int(self.figure.get_size_inches()[0] * 72 / _CAPTION_POINTS / 0.53))
            text = "\n".join(textwrap.wrap(self.caption, characters))
            self.figure.supxlabel(text, x=0.01, ha="left", fontsize=_CAPTION_POINTS, color="0.25")
            draw_as_written(self.figure)
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine(None)  # "none" would leave a placeholder, for which savefig draws twice
        self.figure._supxlabel.set_visible(captioned)  # type: ignore[attr-defined]
        buffer = io.BytesIO()
        metadata = {"Date": None, "Description": self.caption} if kind == "svg" else {"Description": self.caption}
        self.figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
        return buffer.getvalue()

    def write(self, folder: Path) -> list[Path]:
        """`name.png` and `name.svg` in a folder."""
        return [write_bytes(folder / f"{self.name}.{kind}", self.render(kind)) for kind in FIGURE_FORMATS]

    def image(self, kind: Kind = "svg") -> str:
        """The figure, embedded, without its caption."""
        source = data_uri(self.render(kind, captioned=False), _MEDIA[kind])
        return f'<img alt="{html.escape(self.caption, quote=True)}" src="{source}">'

    def html(self, kind: Kind = "svg") -> str:
        """What a page shows, with its caption below as text."""
        caption = html.escape(self.told or self.caption, quote=True)
        return f"<figure>{self.drawn or self.image(kind)}<figcaption>{caption}</figcaption></figure>"


__all__ = ["FIGURE_FORMATS", "Kind", "Plate"]
