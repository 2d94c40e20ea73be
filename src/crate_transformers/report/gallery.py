"""Pictures in a grid on a page, a caption under each."""

import html
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .viewer import shown_picture

_SIDE = 112  # pixels of the longer side of a picture in a grid


def gallery_html(pictures: Sequence[Image.Image], captions: Sequence[str], framed: Sequence[bool] = ()) -> str:
    """Pictures with their captions; those with `framed` in a frame.

    Example:
        >>> gallery_html([Image.new("L", (8, 8))], ["a <zero>"]).count("a &lt;zero&gt;")
        1
    """
    items = []
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        text = html.escape(caption)
        kind = ' class="wrong"' if framed and framed[i] else ""
        source = shown_picture(np.asarray(picture.convert("RGB")), _SIDE)
        items.append(f'<li{kind}><img alt="" src="{source}"><span>{text}</span></li>')
    return f'<ul class="gallery">{"".join(items)}</ul>'


__all__ = ["gallery_html"]
