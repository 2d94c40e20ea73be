"""Pictures of any mode to 8-bit grey ("L") or colour ("RGB"), upon white."""

import numpy as np
from PIL import Image

from ...errors import UserError

_INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_KEYED_MODES = ("1", "L", "RGB", *_INTEGER_MODES)  # where info["transparency"] is the one colour that is clear


def to_channels(image: Image.Image, num_channels: int, name: str = "the picture") -> Image.Image:
    """Any picture to "L" or "RGB".

    Transparency is laid over white, whether it is a channel (RGBA, LA, PA, RGBa, La), alphas of a palette or one clear
    colour (info["transparency"]). Values become 8-bit ones by the mode:

    - 1, L, P, RGB, RGBX, CMYK, YCbCr, HSV, LAB: as Pillow converts them;
    - I;16 (of either byte order): value // 256;
    - I: as they are where all lie in 0 ... 255, else value // 256 where all lie in 0 ... 65535;
    - F: 255 * value where all lie in 0 ... 1, else as they are where all lie in 0 ... 255, rounded; half an 8-bit step
      beyond these ranges is still within.

    Args:
        num_channels: 1 or 3. name: what to call the picture in a message.

    Raises:
        UserError: another number of channels, not a picture, values of mode I or F in another range, NaN or infinity.
    """
    if num_channels not in (1, 3):
        raise UserError(f"pictures have 1 or 3 channels, got num_channels={num_channels}")
    if not isinstance(image, Image.Image):
        raise UserError(f"{name} is a {type(image).__name__}, not a picture")
    mode = "L" if num_channels == 1 else "RGB"
    image = _over_white(image, name)
    if image.mode == "LAB":
        image = image.convert("RGB")  # Pillow converts LAB to nothing else
    return image if image.mode == mode else image.convert(mode)


def _over_white(image: Image.Image, name: str) -> Image.Image:
    """The picture in 8 bits a channel and without transparency."""
    key = image.info.get("transparency")
    if key is not None and image.mode in _KEYED_MODES:
        alpha = Image.fromarray(np.where(_is_color(image, key, name), 0, 255).astype(np.uint8))
        image = _eight_bits(image, name).copy()
        image.info.pop("transparency", None)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (key is not None and image.mode == "P"):
        straight = image.convert("LA") if image.mode == "La" else image
        image = straight.convert("RGBA")
        alpha = image.getchannel("A")
    else:
        return _eight_bits(image, name)
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=alpha)
    return white


def _is_color(image: Image.Image, key: object, name: str) -> np.ndarray:
    """(height, width) bool: the pixels of this colour, an integer or three in the values of the mode."""
    color = np.asarray(key)
    if color.dtype.kind not in "iu" or color.shape != ((3,) if image.mode == "RGB" else ()):
        raise UserError(f"{name} names {key!r} as its clear colour, which is none of mode {image.mode}")
    if image.mode == "RGB":
        return (np.asarray(image) == color).all(axis=-1)
    return np.asarray(image) == (color > 0 if image.mode == "1" else color)


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        values = _float_to_bytes(np.asarray(image), name)
    elif image.mode in _INTEGER_MODES:
        values = _integer_to_bytes(np.asarray(image), image.mode, name)
    else:
        return image
    return Image.fromarray(values.astype(np.uint8))


def _float_to_bytes(values: np.ndarray, name: str) -> np.ndarray:
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    for scale in (255, 1):
        if low * scale >= -0.5 and high * scale < 255.5:
            return np.rint(values * np.float32(scale)).clip(0, 255)
    raise UserError(
        f"{name} has float values from {low:g} to {high:g}: expected 0 to 1 or 0 to 255, rescale it or save it in 8 "
        "bits"
    )


def _integer_to_bytes(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UserError(
            f"{name} has integer values from {low} to {high}: expected 0 to 255 or 0 to 65535, rescale it or save it "
            "in 8 bits"
        )
    return values if mode == "I" and high <= 255 else values >> 8


__all__ = ["to_channels"]
