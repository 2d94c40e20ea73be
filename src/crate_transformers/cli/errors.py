"""Which errors are the user's, and how they are told."""

import sys
from typing import NoReturn

from huggingface_hub.errors import StrictDataclassError


def exit_with_message(error: Exception) -> NoReturn:
    """Print what a user can act on as one line and leave with status 2; let everything else show its trace."""
    if isinstance(error, ValueError | OSError | StrictDataclassError | ImportError):
        message = str(error) or type(error).__name__
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    raise error


__all__ = ["exit_with_message"]
