"""Errors that are the user's to mend: told in one line by the commands, without a trace.

Every other exception keeps its trace, so that a fault of the library is never told as if it were the user's.
"""


class UserError(ValueError):
    """What was given does not fit. The message says what was expected, what was got, and what to do."""


class MissingPackageError(UserError, ImportError):
    """A package that an extra brings is not installed. The message says what to install."""


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks; its class where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


__all__ = ["MissingPackageError", "UserError", "one_line"]
