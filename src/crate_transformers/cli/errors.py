"""Which errors are the user's, and how they are told."""

import sys
from typing import NoReturn

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError


def exit_with_message(error: Exception) -> NoReturn:
    """Print what a user can act on as one line and leave with status 2; let everything else show its trace."""
    if isinstance(error, ValueError | OSError | StrictDataclassError | ImportError) or _is_of_a_file(error):
        message = str(error).splitlines()[0] if _is_of_a_file(error) else str(error) or type(error).__name__
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    raise error


def _is_of_a_file(error: Exception) -> bool:
    """Weights that could not be read or written (a damaged file, a full disk), as safetensors and torch say it."""
    return isinstance(error, SafetensorError) or (isinstance(error, RuntimeError) and "PytorchStream" in str(error))


__all__ = ["exit_with_message"]
