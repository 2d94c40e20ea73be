"""The public checkpoint layouts, one file each, and the one table of them.

`layout.py` says what a layout is, `shapes.py` holds what several of them read from shapes.
"""

from ...errors import UserError
from .alpha import ALPHA, ALPHA_FLAX
from .autoencoder import AUTOENCODER
from .cbt import CBT
from .encoder import ENCODER
from .language import LANGUAGE
from .layout import Layout, StateDict
from .refused import reason_to_refuse
from .tost import TOST
from .tost_vision import TOST_VISION
from .vision import VISION

LAYOUTS: tuple[Layout, ...] = (
    ALPHA,
    ALPHA_FLAX,
    CBT,
    VISION,
    AUTOENCODER,
    LANGUAGE,
    ENCODER,
    TOST_VISION,
    TOST,
)  # tried in this order


def recognise(state: StateDict) -> Layout:
    """The layout of a state dict.

    Raises:
        ValueError: none of ours; those that are near to ours are refused by name (refused.py).
    """
    refused = reason_to_refuse(state)
    if refused is not None:
        raise UserError(f"this checkpoint is {refused}")
    for layout in LAYOUTS:
        if layout.is_layout(state):
            return layout
    sample = ", ".join(name[:80] for name in list(state)[:6])
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise UserError(f"not a CRATE checkpoint: its keys ({sample}, ...) fit none of the layouts {known}")


__all__ = ["LAYOUTS", "Layout", "recognise"]
