"""Colours that colour-blind readers can tell apart: Okabe and Ito's for things, viridis for amounts.

The explorer's page has the same ramps (explore/static/colours.js).
"""

import numpy as np

BLUE, RED, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)

VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
    (170, 220, 50), (253, 231, 37),
)  # fmt: skip
SIGNS = (
    (0, 90, 160), (60, 140, 195), (150, 190, 220), (225, 225, 225), (240, 190, 130), (225, 130, 50), (180, 70, 0),
)  # fmt: skip


def along(ramp: tuple[tuple[int, int, int], ...], shares: np.ndarray) -> np.ndarray:
    """The colours (..., 3) uint8 of a ramp at shares (...) in [0, 1].

    Example:
        >>> along(VIRIDIS, np.array([0.0, 1.0])).tolist()
        [[68, 1, 84], [253, 231, 37]]
    """
    places = np.clip(shares, 0, 1) * (len(ramp) - 1)
    channels = [np.interp(places, range(len(ramp)), [color[i] for color in ramp]) for i in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def ink_on(color: np.ndarray) -> str:
    """Black or white, whichever is read better on a colour (3,) uint8, by the relative luminance of WCAG 2.

    Example:
        >>> ink_on(np.array([48, 178, 124])), ink_on(np.array([68, 1, 84]))
        ('#000', '#fff')
    """
    shares = color / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return "#000" if linear @ np.array([0.2126, 0.7152, 0.0722]) > 0.179 else "#fff"


def palette_color(number: int) -> tuple[int, int, int]:
    """Red, green and blue of thing `number` from 0; after the last colour comes the first again."""
    red, green, blue = bytes.fromhex(PALETTE[number % len(PALETTE)][1:])
    return red, green, blue


__all__ = [
    "BLUE",
    "GREEN",
    "ORANGE",
    "PALETTE",
    "PURPLE",
    "RED",
    "SIGNS",
    "SKY",
    "VIRIDIS",
    "along",
    "ink_on",
    "palette_color",
]
