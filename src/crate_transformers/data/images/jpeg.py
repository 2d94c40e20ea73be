"""JPEG files to pixels by simplejpeg (the extra `jpeg`): the numbers that Pillow gives, in two thirds of the time.

Both read with libjpeg-turbo; simplejpeg writes into an array at once, and refuses what Pillow would mend in silence.
What may be read otherwise is left to Pillow: orientations of EXIF and XMP, four colours, whatever is refused.
torchvision's reader of JPEG files is as fast, but is deprecated since torchvision 0.29.
"""

from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import UserError
from .damage import named_damage
from .decoding import MAX_PIXELS, MAX_SIDE

_MARK = b"\xff\xd8\xff"
_TURNING = {"exif", "xmp"}  # what may say that a picture lies on its side


@cache
def _reader() -> Callable[[bytes, str], np.ndarray] | None:
    try:
        from simplejpeg import decode_jpeg  # an extra
    except ImportError:
        return None
    reader: Callable[[bytes, str], np.ndarray] = decode_jpeg
    return reader


def jpeg_pixels(content: bytes) -> Tensor | None:
    """(3, H, W) uint8 of a JPEG file; None of another file, and where Pillow must read it or say what is wrong.

    Example:
        >>> jpeg_pixels(b"no picture") is None
        True
    """
    read = _reader()
    if read is None or not content.startswith(_MARK):
        return None
    try:
        with named_damage("a picture"), Image.open(BytesIO(content)) as header:  # its first bytes alone
            is_usual = header.format == "JPEG" and header.mode in ("L", "RGB")
            fits = header.width * header.height <= MAX_PIXELS and max(header.size) <= MAX_SIDE
            if is_usual and fits and not _TURNING & set(header.info):
                return torch.from_numpy(read(content, "RGB")).permute(2, 0, 1)
    except UserError:
        pass  # Pillow reads it, or names the file
    return None


__all__ = ["jpeg_pixels"]
