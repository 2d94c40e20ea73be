"""Paths as users write them; files written whole or not at all, with the permissions that the user's umask gives."""

import os
from contextlib import suppress
from pathlib import Path

from .errors import UserError


def user_path(place: str | Path) -> Path:
    """A path that a user wrote, with `~` for a home.

    Raises:
        UserError: there is no such home.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise UserError(f"{place}: there is no such home folder: write the whole path") from error


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file beside its name, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return path


def give_usual_modes(folder: Path) -> None:
    """Give the weights in a folder the permissions of a file that was just opened for writing.

    safetensors writes through a temporary file that its owner alone may read, whatever the umask.
    """
    probe = folder / f".mode.{os.getpid()}"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


__all__ = ["give_usual_modes", "user_path", "write_bytes"]
