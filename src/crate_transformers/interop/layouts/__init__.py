"""The public checkpoint layouts, one file each, and the one table of them.

`layout.py` says what a layout is, `shapes.py` holds what several of them read from shapes.
"""

from ...errors import UserError
from .autoencoder import AUTOENCODER
from .cbt import CBT
from .encoder import ENCODER
from .language import LANGUAGE
from .layout import Layout, StateDict
from .tost import TOST
from .tost_vision import TOST_VISION
from .vision import VISION

LAYOUTS: tuple[Layout, ...] = (CBT, VISION, AUTOENCODER, LANGUAGE, ENCODER, TOST_VISION, TOST)  # tried in this order


def recognise(state: StateDict) -> Layout:
    """The layout of a state dict.

    Raises:
        ValueError: none of ours; CRATE-alpha is refused by name.
    """
    if any(name.endswith("1.fn.D1") for name in state):
        raise UserError(
            "this is a CRATE-alpha checkpoint (over-complete decoupled dictionaries D and D1); the alpha family is not "
            "part of this version"
        )
    for layout in LAYOUTS:
        if layout.is_layout(state):
            return layout
    sample = ", ".join(name[:80] for name in list(state)[:6])
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise UserError(f"not a CRATE checkpoint: its keys ({sample}, ...) fit none of the layouts {known}")


__all__ = ["LAYOUTS", "Layout", "recognise"]
