"""C++ sources beside the operators to shared libraries, by the machine's own compiler, once a machine.

What is compiled is kept in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`, in `crate_transformers`; without a
home, a folder of the user's own among the temporary files). Its name holds a digest of the sources, the processor's
vectors and the compiler, and one of the file itself, which is checked before the file is loaded: a library that was cut
off would end the process. Without a compiler, or on a processor whose vectors are not known here, there is no library
and torch's own operators do the work; `CRATE_FORMS=torch` in the environment asks for that (see ../forms.py).
"""

import ctypes
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import torch

logger = logging.getLogger(__name__)

_HEADERS = Path(__file__).parent
_OPTIONS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-fopenmp", "-fno-math-errno", "-ffp-contract=fast")
_VECTOR_OPTIONS = {  # torch's names for what a processor has
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
    "AVX2": ("-mavx2", "-mfma"),
}
_PATIENCE_S = 300


def _vector_options() -> tuple[str, ...] | None:
    if platform.machine().lower() in ("arm64", "aarch64"):
        return ()  # its vectors are part of the architecture
    return _VECTOR_OPTIONS.get(torch.backends.cpu.get_cpu_capability())


def _compiler() -> list[str] | None:
    named = os.environ.get("CXX")
    if named:
        return shlex.split(named)
    found = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    return [found] if found else None


def cache_folder() -> Path | None:
    """The folder of this library among the user's cached files; None where the user has no home and no such folder."""
    with suppress(RuntimeError):  # no home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crate_transformers"
    with suppress(OSError, AttributeError):
        folder = Path(gettempdir()) / f"crate_transformers-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder  # nobody else can have put a library there
    return None


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def _keep(built: Path, folder: Path, key: str) -> None:
    """Copy under a name of its own, then rename: another process sees the whole file or none."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{key}.{os.getpid()}"
    try:
        shutil.copy(built, partial)
        partial.replace(folder / f"{key}-{_digest(built.read_bytes())}.so")
    finally:
        partial.unlink(missing_ok=True)


def _open(file: Path, symbols: tuple[str, ...]) -> ctypes.CDLL | None:
    """A library that holds what it is loaded for, else None."""
    library = ctypes.CDLL(str(file))
    return library if all(hasattr(library, symbol) for symbol in symbols) else None


def _stored(folder: Path, key: str, symbols: tuple[str, ...]) -> ctypes.CDLL | None:
    """A whole library of the folder; what is no longer whole is removed."""
    for file in folder.glob(f"{key}-*.so"):
        if file.stem.rpartition("-")[2] != _digest(file.read_bytes()):
            file.unlink()
        elif (library := _open(file, symbols)) is not None:
            return library
    return None


@cache
def load(source: Path, symbols: tuple[str, ...]) -> ctypes.CDLL | None:
    """The library of one C++ file, compiled if it was not yet; None where that is not possible.

    Its threads are torch's: both share the OpenMP runtime that torch has loaded.

    Args:
        symbols: the functions that the library is loaded for.
    """
    vectors, compiler = _vector_options(), _compiler()
    if vectors is None or compiler is None:
        return None
    command = [*compiler, *_OPTIONS, *vectors]
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(_HEADERS.glob("*.h")))]
    key = f"{source.stem}-{_digest(chr(0).join([*command, platform.machine(), *texts]).encode())}"
    folder = cache_folder()
    if folder is not None:
        with suppress(OSError):
            if (library := _stored(folder, key, symbols)) is not None:
                return library
    try:
        with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
            built = Path(temporary) / f"{key}.so"
            whole = [*command, f"-I{_HEADERS}", str(source), "-o", str(built)]
            subprocess.run(whole, check=True, capture_output=True, timeout=_PATIENCE_S)
            if folder is not None:
                with suppress(OSError):
                    _keep(built, folder, key)
            return _open(built, symbols)
    except (OSError, subprocess.SubprocessError) as error:
        details = (getattr(error, "stderr", None) or b"").decode(errors="replace")[-2000:]
        logger.info("%s was not compiled, torch's operators are used: %s %s", source.name, error, details)
        return None


__all__ = ["cache_folder", "load"]
