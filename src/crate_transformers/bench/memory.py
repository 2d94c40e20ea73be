"""Peak memory of a piece of work above the loaded model, in a process of its own: resident memory, or a GPU's.

`python -m crate_transformers.bench.memory NAME CASE DEVICE` (CASE is json) prints the bytes, or "null" where
the system does not tell.
"""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .contenders import Case, build

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(name: str, case: Case) -> int | None:
    """Bytes above the loaded model at the peak of two runs, measured in a process of its own; None: not measured."""
    device = torch.get_default_device().type
    command = [sys.executable, "-W", "ignore", "-m", __name__, name, json.dumps(case.fields()), device]
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        return None  # most likely the system ended it for lack of memory
    return json.loads(result.stdout.strip().splitlines()[-1])


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def measure_here(name: str, case: Case) -> int | None:
    """As `peak_memory`, in this process, which must have done nothing else before."""
    work = build(name, case)
    gc.collect()
    if torch.get_default_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(2):
            work.run()
        return torch.cuda.max_memory_allocated() - before
    try:
        _CLEAR.write_text("5")  # the peak starts again at what is resident now
        before = _kilobytes("VmRSS")
        for _ in range(2):
            work.run()
        return 1024 * (_kilobytes("VmHWM") - before)
    except OSError:
        return None


def _main() -> None:
    name, case, device = sys.argv[1:]
    if device != "cpu":
        torch.set_default_device(device)
    print(json.dumps(measure_here(name, Case(**json.loads(case)))))


if __name__ == "__main__":
    _main()

__all__ = ["measure_here", "peak_memory"]
