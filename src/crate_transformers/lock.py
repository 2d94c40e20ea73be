"""A lock on a folder: one process holds it, on this machine and on others that share the disk.

The file `.lock` in the folder names the host and the process that hold it, and is written anew every few seconds: the
heart-beat. The system's own lock on that file ends with the process, so that on one host a killed run can be resumed at
once; between hosts, and where the system has no locks, the heart-beat decides. A run holds its folder so; the process
that looks through a data set for all holds the folder of its arrays.

A launcher (launcher.py) may start a run anew before the processes of the time before are gone. The file also names the
run, as the launcher does: where it is the same, the new ones wait until the folder is free.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import UserError
from .launcher import run_identity

LOCK_FILE = ".lock"
_BEAT_S = 5.0
_SILENCE_S = 90.0  # after so long without a heart-beat, a run on another host counts as dead
_SILENCE_OF_SAME_S = 20.0  # and the same run, which its launcher started anew, because its processes there died
_PATIENCE_S = 60.0  # a run that was started anew waits for the folder so long


class HeldError(UserError):
    """Another process holds the folder; `owner` is what it wrote of itself."""

    def __init__(self, path: Path, owner: Mapping[str, object]):
        super().__init__(_refusal(path, owner))
        self.owner = owner


try:
    import fcntl
except ImportError:  # not on every system
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder.

    Raises:
        HeldError: another process holds it; the message, of a run, names its host and process.
    """
    path = folder / LOCK_FILE
    handle = _claim(path)
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(handle, done), daemon=True)
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join()
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def _claim(path: Path) -> int:
    """Take the lock, at once or, from the same run's processes of the time before, as soon as they let it go."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return _claim_now(path)
        except HeldError as held:
            same = run_identity() and held.owner.get("run") == run_identity()
            if not same or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _claim_now(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle):
                raise HeldError(path, _read(handle))
            if not _is_still(path, handle):  # its holder removed it between our opening and locking it
                os.close(handle)
                continue
            owner = _read(handle)
            if owner and _lives_elsewhere(owner, handle):
                raise HeldError(path, owner)
            _write(handle)
            return handle
        except BaseException:
            with suppress(OSError):
                os.close(handle)
            raise


def _lock(handle: int) -> bool:
    """Take the system's lock; False where another process has it. Children of this process do not hold it."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)  # else this file system has no locks
    return True


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _lives_elsewhere(owner: Mapping[str, object], handle: int) -> bool:
    """Whether the heart-beat shows that a run outside the reach of this system's locks still lives."""
    silence = time.time() - os.fstat(handle).st_mtime
    if owner.get("host") != socket.gethostname():
        same = run_identity() and owner.get("run") == run_identity()
        return silence < (_SILENCE_OF_SAME_S if same else _SILENCE_S)
    return fcntl is None and silence < _SILENCE_S


def _beat(handle: int, done: threading.Event) -> None:
    while not done.wait(_BEAT_S):
        with suppress(OSError):
            _write(handle)


def _write(handle: int) -> None:
    owner = {"host": socket.gethostname(), "process": os.getpid(), "time": round(time.time(), 1)}
    content = json.dumps({**owner, "run": run_identity()[:100]})
    os.pwrite(handle, content.ljust(300).encode(), 0)


def _read(handle: int) -> dict[str, object]:
    try:
        content = json.loads(os.pread(handle, 4096, 0).decode() or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _refusal(path: Path, owner: Mapping[str, object]) -> str:
    who = f"process {owner.get('process', '?')} on {owner.get('host', 'an unknown host')}"
    return (
        f"a run is going on in {path.parent} ({who}): wait for it, stop it, or name another --output (a run that died "
        f"on another host is given up {_SILENCE_S:.0f} s after its last heart-beat)"
    )


__all__ = ["LOCK_FILE", "HeldError", "locked"]
