"""Which errors are told in one line, and how: the user's, and what the machine refuses (a full disk, no permission)."""

import errno
import sys
from typing import NoReturn

from ..errors import UserError, one_line

# what a machine says of its own state; every other OSError is a fault of ours and keeps its trace
_OF_THE_MACHINE = frozenset(
    getattr(errno, name)
    for name in (
        "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "ENAMETOOLONG", "ENOENT",
        "ENOTDIR", "EISDIR", "ELOOP", "ESTALE",
    )
    if hasattr(errno, name)
)  # fmt: skip


def exit_with_message(error: Exception) -> NoReturn:
    """Print what a user can act on as one line on stderr and leave with status 2; all else shows its trace."""
    if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    raise error


__all__ = ["exit_with_message"]
