"""Image files to pictures of the right number of channels, with errors that name the file."""

import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 178_956_970  # Pillow's own limit for what may be a decompression bomb


def load_image(path: str | Path, num_channels: int = 3) -> Image.Image:
    """Read an image file whole.

    Args:
        path: of any format that Pillow reads.
        num_channels: 1 or 3.

    Returns:
        a picture in mode "L" or "RGB", upright; transparency is laid over white.

    Raises:
        ValueError: a missing, empty, truncated or foreign file, or one of more than MAX_PIXELS pixels; named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no image file at {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size is checked here, and metadata quirks concern nobody
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UserError(
                        f"{path} is {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} that are "
                        "read: make it smaller"
                    )
                image.load()
                return to_channels(ImageOps.exif_transpose(image), num_channels)
    except UnidentifiedImageError as error:
        kind = "empty" if path.stat().st_size == 0 else "not an image, or a damaged one"
        raise UserError(f"{path} is {kind}") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has more than the {MAX_PIXELS:,} pixels that are read: make it smaller") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise UserError(f"{path} is truncated or damaged: {error}") from error


def to_channels(image: Image.Image, num_channels: int) -> Image.Image:
    """Any picture (grey, palette, CMYK, 16 bit, with transparency) to "L" or "RGB".

    Raises:
        ValueError: a number of channels other than 1 and 3.
    """
    if num_channels not in (1, 3):
        raise UserError(f"pictures have 1 or 3 channels, got num_channels={num_channels}")
    mode = "L" if num_channels == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def find_images(places: Iterable[str | Path]) -> list[Path]:
    """Image files, named or in folders (searched to any depth), sorted within each folder.

    Raises:
        ValueError: a place that does not exist, or nothing found.
    """
    found: list[Path] = []
    folders_or_files = [Path(place) for place in places]
    for place in folders_or_files:
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        elif place.is_file():
            found.append(place)
        else:
            raise UserError(f"no image file or folder at {place}")
    if not found:
        raise UserError(f"no image in {', '.join(map(str, folders_or_files))}")
    return found


__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "find_images", "load_image", "to_channels"]
