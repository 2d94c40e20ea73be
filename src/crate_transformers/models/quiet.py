"""Silence for transformers' own bars and notices, which would tear ours."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..upstream import transformers_logging


@contextmanager
def quiet_transformers(level: int = logging.ERROR) -> Iterator[None]:
    """Within, transformers shows no progress bars, and of its notices errors only, or what is graver than that."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(max(verbosity, level))
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


__all__ = ["quiet_transformers"]
