"""C++ sources of this folder to a shared library, by the machine's own compiler, once a machine.

What is compiled is kept in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`, in `crate_transformers`), under a
name made of the sources, the processor's vectors and the compiler. Without a compiler, or on a processor whose vectors
are not known here, there is no library and torch's own operators do the work. `CRATE_NATIVE=0` in the environment asks
for that.
"""

import ctypes
import logging
import os
import platform
import shlex
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

logger = logging.getLogger(__name__)

_SOURCES = Path(__file__).parent
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


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crate_transformers"


def _keep(built: Path, stored: Path) -> None:
    """Copy under a name of its own, then rename: another process sees the whole file or none."""
    stored.parent.mkdir(parents=True, exist_ok=True)
    partial = stored.with_suffix(f".{os.getpid()}")
    shutil.copy(built, partial)
    partial.replace(stored)


@cache
def load(name: str) -> ctypes.CDLL | None:
    """The library of `name`.cpp, compiled if it was not yet; None where that is not possible.

    Its threads are torch's: both share the OpenMP runtime that torch has loaded.
    """
    vectors, compiler = _vector_options(), _compiler()
    if vectors is None or compiler is None or os.environ.get("CRATE_NATIVE") == "0":
        return None
    source = _SOURCES / f"{name}.cpp"
    command = [*compiler, *_OPTIONS, *vectors]
    texts = [path.read_text() for path in (source, *sorted(_SOURCES.glob("*.h")))]
    key = sha256("\0".join([*command, platform.machine(), *texts]).encode()).hexdigest()[:16]
    stored = _cache_folder() / f"{name}-{key}.so"
    with suppress(OSError):
        return ctypes.CDLL(str(stored))
    try:
        with TemporaryDirectory() as folder:
            built = Path(folder) / stored.name
            subprocess.run(
                [*command, str(source), "-o", str(built)], check=True, capture_output=True, timeout=_PATIENCE_S
            )
            with suppress(OSError):
                _keep(built, stored)
            return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        details = (getattr(error, "stderr", None) or b"").decode(errors="replace")[-2000:]
        logger.info("%s was not compiled, torch's operators are used: %s %s", source.name, error, details)
        return None


__all__ = ["load"]
