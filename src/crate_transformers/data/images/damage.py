"""Damaged pictures: whatever a decoder raises becomes one line that names the picture; its warnings are not shown."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from ...errors import UserError

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what decoders log before they raise


class _Quiet:
    """Within, no warning of Pillow is shown: this library checks sizes itself, and odd metadata change no pixel.

    Several threads may be within at once, and `warnings.catch_warnings` alone is not made for that: the first thread
    that enters sets the filters, the last one that leaves puts them back.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.inside += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.filters.__exit__(None, None, None)


_quiet_pillow = _Quiet()


def one_line(error: BaseException) -> str:
    """What an exception says, in one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def named_damage(name: str) -> Iterator[None]:
    """Within, a decoder's exception becomes a UserError that names the picture.

    Every Exception counts: decoders that read nonsense raise struct.error, KeyError, OverflowError, MemoryError, ...
    """
    try:
        with _quiet_pillow:
            yield
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image, or a damaged one") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} has more pixels than are read: make it smaller ({one_line(error)})") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # of the system, not of a decoder
            raise UserError(f"{name} cannot be read: {error.strerror}") from error
        raise UserError(f"{name} is truncated or damaged: {one_line(error)}") from error


__all__ = ["named_damage", "one_line"]
