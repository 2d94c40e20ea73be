"""Image files to pictures of the right number of channels, with errors that name the file."""

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from PIL import Image

from ...errors import UserError
from .damage import named_damage
from .modes import to_channels

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from PIL.TiffImagePlugin import TiffImageFile

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
MAX_PIXELS = 178_956_970  # Pillow's own limit for what may be a decompression bomb
MAX_SIDE = 131_072  # twice what a JPEG may have: a damaged header says millions

_ORIENTATION, _PHOTOMETRIC, _PLANAR, _TILE_WIDTH, _TILE_LENGTH = 0x112, 0x106, 0x11C, 0x142, 0x143  # of EXIF and TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(path: str | Path, num_channels: int = 3) -> Image.Image:
    """Read an image file whole.

    Args:
        path: of any format that Pillow reads. Of several frames the first is read.
        num_channels: 1 or 3.

    Returns:
        a picture in mode "L" or "RGB", upright (as stored where its EXIF cannot be read); transparency is laid over
        white. `to_channels` says what becomes of each mode; files of 12 and 16 bits count as 16-bit ones.

    Raises:
        UserError: a missing, empty, truncated or foreign file, one of more than MAX_PIXELS pixels or MAX_SIDE a side,
            or one whose values have no known range; named.
    """
    name = os.fspath(path)
    with named_damage(name):
        size = _size_of_file(name)
        if size is None:
            raise UserError(f"no image file at {name}")
        if size == 0:
            raise UserError(f"{name} is empty")
        # not by its name: Pillow would map it, and does so at the wrong size when turned
        with open(name, "rb") as file:
            return decode_image(file, name, num_channels)


def _size_of_file(path: str) -> int | None:
    """Bytes of a file; None where there is no such file. Of a million pictures, one question to the disk each."""
    try:
        state = os.stat(path)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def decode_image(source: BinaryIO, name: str, num_channels: int = 3, max_pixels: int | None = None) -> Image.Image:
    """As `load_image`, of an open file.

    Args:
        name: what messages call it. max_pixels: no more are read; None is MAX_PIXELS.
    """
    with named_damage(name), Image.open(source) as image:
        _check_size(image.width, image.height, name, MAX_PIXELS if max_pixels is None else max_pixels)
        if image.format == "TIFF":
            _check_tiff(cast("TiffImageFile", image), name)
        stored = _stored_mode(image)
        image.load()
        picture = _upright(_in_full_range(image, stored, source))
        return to_channels(picture, num_channels, name)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise UserError(
            f"{name} is {width} x {height} pixels, more than the {max_pixels:,} (and {MAX_SIDE:,} a side) that are "
            "read: make it smaller"
        )


def _check_tiff(image: "TiffImageFile", name: str) -> None:
    """Refuse what would be decoded into a huge buffer or, in silence, with a part missing or as a negative."""
    tags = image.tag_v2
    if image.tile and image.tile[0][0] != "libtiff":  # which sees for itself that nothing is missing
        boxes = [tile[1] for tile in image.tile if tile[1] is not None]
        covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
        planes = len(image.getbands()) if tags.get(_PLANAR) == 2 else 1
        if covered < image.width * image.height * planes:
            raise UserError(
                f"{name} is truncated or damaged: it lacks a part of its {image.width} x {image.height} pixels"
            )
    if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0) > MAX_PIXELS:
        raise UserError(f"{name} has tiles of more than {MAX_PIXELS:,} pixels: save it with smaller ones")
    if tags.get(_PHOTOMETRIC) == 0 and image.mode[0] in "IF":
        raise UserError(f"{name} stores white as 0 in more than 8 bits, which is not read: save it with black as 0")


def _stored_mode(image: "ImageFile") -> str:
    """Pillow's name of how the pixels lie in the file, e.g. "RGB;16B"; known until they are loaded."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _in_full_range(image: Image.Image, stored: str, source: BinaryIO) -> Image.Image:
    """Mend what Pillow leaves in another scale than that of the mode: 12 and 16 bits of grey, a PNG's clear colour."""
    if stored == "I;12":
        return Image.fromarray(np.asarray(image) << 4)
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        image = image.convert("I;16")
    key = image.info.get("transparency")
    if key is not None and stored in ("L;2", "L;4"):
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}[stored]
    elif key is not None and stored == "RGB;16B":
        low_bytes = _low_bytes(source)
        high, low = np.divmod(np.asarray(key), 256)
        clear = (np.asarray(image) == high).all(axis=-1) & (low_bytes == low).all(axis=-1)
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    return image


def _low_bytes(source: BinaryIO) -> np.ndarray:
    """(height, width, 3) uint8, the half of a 16-bit RGB PNG that Pillow leaves out: two colours may differ in it."""
    with Image.open(source) as image:
        image.tile = [(*image.tile[0][:3], "RGB;16L")]  # type: ignore[attr-defined, list-item]
        return np.asarray(image)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises anything, and says nothing of the orientation
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


__all__ = ["MAX_PIXELS", "MAX_SIDE", "decode_image", "load_image"]
