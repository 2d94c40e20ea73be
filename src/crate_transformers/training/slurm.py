"""A run as a job of Slurm: written and submitted by submitit, on one node or several.

the job   one task a node; each starts torchrun's agent, which starts a process a GPU
meeting   the agents find each other at the job's first node, at a port that follows from the job's number
signals   Slurm sends SIGUSR2 before the time is up or a job of more right takes the nodes: the processes end their
          step and save, and the job is put back into the queue
resuming  the command always has --resume, so the job goes on where it was, as often as it is started
failures  a process that dies has the agents start all of them again, `max_restarts` times
"""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MissingPackageError, UserError

LOGS = "slurm"  # the folder of a run that holds the job's script and what it said
_FIRST_PORT, _PORTS = 20_000, 20_000
_TO_STOP_S = 60.0  # seconds that the processes have to end their step and save
_BEFORE_S = 120  # seconds before the end at which Slurm sends its signal
_STARTS_AGAIN = 1000  # how often the job may run out of its time


@dataclass
class Job:
    """What each task of the job does; submitit keeps it in a file, and calls it.

    Attributes:
        arguments: of `crate train`. processes: of a node. max_restarts: after processes that died.
    """

    arguments: list[str]
    processes: int
    max_restarts: int = 3
    _agent: Any = field(default=None, repr=False)

    def line(self, nodes: int, head: str, job: str) -> list[str]:
        """The command of a node's agent.

        Args:
            nodes: of the job. head: its first node. job: its number.
        """
        number = int("".join(filter(str.isdigit, job)) or 0)
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            f"--nnodes={nodes}",
            f"--nproc-per-node={self.processes}",
            f"--max-restarts={self.max_restarts}",
            "--rdzv-backend=c10d",
            f"--rdzv-endpoint={head}:{_FIRST_PORT + number % _PORTS}",
            f"--rdzv-id={job}",
            *("-m", "crate_transformers", "train", *self.arguments),
        ]

    def __call__(self) -> None:
        """Run the agent of this node until the run ends.

        Raises:
            RuntimeError: it failed.
        """
        environment = _submitit().JobEnvironment()
        nodes = list(dict.fromkeys(environment.hostnames))
        self._agent = subprocess.Popen(
            self.line(len(nodes), nodes[0], str(environment.job_id)),
            preexec_fn=_pass_over_notice,
        )
        code = self._agent.wait()
        if code:
            raise RuntimeError(f"crate train ended with status {code}")

    def checkpoint(self) -> Any:
        """What submitit does at Slurm's signal: stop the processes, which save, and hand over the job to come."""
        if self._agent is not None and self._agent.poll() is None:
            self._agent.send_signal(signal.SIGTERM)
            try:
                self._agent.wait(_TO_STOP_S)
            except subprocess.TimeoutExpired:  # the last checkpoint is what the next start goes on from
                self._agent.kill()
        return _submitit().helpers.DelayedSubmission(Job(self.arguments, self.processes, self.max_restarts))


def _pass_over_notice() -> None:
    """Slurm sends its notice to every process of a task; it is meant for the one that started this one."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass(frozen=True)
class Submitted:
    """script: what Slurm was given. job: its number; empty where nothing was submitted."""

    script: str
    job: str = ""


def submit(job: Job, output: Path, nodes: int, options: Mapping[str, Any], dry_run: bool = False) -> Submitted:
    """Write a job, and give it to Slurm.

    Args:
        output: the folder of the run, whose folder `slurm` gets the script and the logs.
        options: of sbatch, by submitit's names: slurm_partition, timeout_min, gpus_per_node, ...
        dry_run: write and submit nothing.

    Raises:
        MissingPackageError: submitit is not installed.
        UserError: there is no Slurm here, it refuses the job, or an option is not known.
    """
    submitit = _submitit()

    kind = submitit.SlurmExecutor
    if dry_run:  # which writes a script also where there is no Slurm
        kind = type("DryExecutor", (kind,), {"affinity": classmethod(lambda cls: 2)})
    folder = output.absolute() / LOGS
    try:
        executor = kind(folder=folder, max_num_timeout=_STARTS_AGAIN)
        executor.update_parameters(nodes=nodes, ntasks_per_node=1, signal_delay_s=_BEFORE_S, **options)
    except (RuntimeError, TypeError, ValueError, NameError) as error:
        raise UserError(f"submitit: {error}") from error
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    if dry_run:
        return Submitted(text)
    try:
        return Submitted(text, str(executor.submit(job).job_id))
    except (submitit.core.utils.FailedJobError, OSError) as error:
        raise UserError(f"Slurm did not take the job: {error}") from error


def train_arguments(recipe: str, output: Path, data: str | None, settings: Sequence[str]) -> list[str]:
    """The arguments of `crate train` in a job, which goes on by itself."""
    sets = [part for setting in settings for part in ("--set", setting)]
    source = ["--data", data] if data is not None else []
    return [recipe, "--output", str(output), *source, *sets, "--resume"]


def _submitit() -> Any:
    try:
        import submitit  # an extra
    except ImportError as error:
        raise MissingPackageError("jobs of Slurm need submitit: pip install 'crate-transformers[slurm]'") from error
    return submitit


__all__ = ["LOGS", "Job", "Submitted", "submit", "train_arguments"]
