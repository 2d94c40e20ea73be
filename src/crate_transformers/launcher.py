"""What starts the processes of a run: torchrun's agents, a job of Slurm. It names a run, and restarts it.

A process that dies takes its run with it in a bounded time, or its launcher starts the run anew:

* the others wait for it in a collective operation, which fails at once where its connections are closed, and after
  `train.ddp_timeout` seconds where they are not
* an agent that is killed leaves no process behind: those that it started are killed with it
* processes that are started anew wait for the folder of the run until those before have let it go (lock.py)
"""

import os
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta

TIMEOUT_S = 1800  # seconds that a collective operation waits where a recipe says nothing
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def run_identity(environment: Mapping[str, str] = os.environ) -> str:
    """What the processes of one run share however often it is started again; empty where nothing restarts it.

    Example:
        >>> run_identity({"SLURM_JOB_ID": "77"}), run_identity({})
        ('slurm 77', '')
    """
    elastic, job = environment.get("TORCHELASTIC_RUN_ID", ""), environment.get("SLURM_JOB_ID", "")
    if job:
        return f"slurm {job}"
    return f"torchrun {elastic}" if elastic not in ("", "none") else ""


def end_with_launcher() -> None:
    """Have this process killed when the agent that started it dies, where the system can (Linux)."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or not sys.platform.startswith("linux"):
        return
    import ctypes  # of this system alone

    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os.kill(os.getpid(), signal.SIGKILL)


def timeout_of(seconds: object) -> timedelta:
    """How long a collective operation waits: `train.ddp_timeout`, where a recipe has it."""
    return timedelta(seconds=seconds if isinstance(seconds, int | float) else TIMEOUT_S)


__all__ = ["TIMEOUT_S", "end_with_launcher", "run_identity", "timeout_of"]
