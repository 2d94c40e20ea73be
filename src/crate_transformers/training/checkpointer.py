"""Writes the checkpoints of a run: one checkpointer for one process, for DDP and for FSDP2.

    copy     every process copies what it holds into its memory; a step waits for this alone
    write    a thread writes the copy into another folder, while training goes on
    publish  once all bytes of all processes are there, the main process seals the folder with checksums
             (checkpoints.py), renames it into its place, and removes the checkpoints that are too many

There is one copy at a time: the next save waits for the one before. What the thread failed at is raised by that save,
or at the end of the run, in every process; a run does not end before its last checkpoint is written. A run that is
killed meanwhile leaves the folder without its name, and the next one removes it.

The two forms of a checkpoint are those of stored.py: gathered by the main process, or sharded.
"""

import json
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed.checkpoint as dcp
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from transformers import PreTrainedModel

from ..errors import UserError, one_line
from ..files import give_usual_modes, write_bytes
from ..layers.adapters import is_adapted
from ..upstream import TRAINER_STATE_NAME, TrainerState
from .checkpoints import Progress, seal
from .launcher import TIMEOUT_S
from .sharding import gathered
from .stored import (
    AVERAGE,
    EMA_FILE,
    MODEL,
    MODEL_FILE,
    OPTIMIZER,
    OPTIMIZER_FILE,
    OPTIMIZER_REST,
    SHARDS,
    join_optimizer,
)

STAGING = ".saving"  # the folder in which a checkpoint is written


@dataclass
class Snapshot:
    """What a checkpoint holds, at one step.

    Attributes:
        tensors: by "PART.NAME", of the parts in stored.py.
        files: everything else, by the name of its file, for torch.save.
        optimizer: what the optimizer holds beside tensors.
        state: of the Trainer. progress: of the run.
        model: whose configuration is saved, and its weights where they are gathered.
    """

    tensors: dict[str, Tensor]
    files: dict[str, Any]
    optimizer: Mapping[str, Any]
    state: TrainerState
    progress: Progress
    model: nn.Module

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of one part, by their names in it."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


@dataclass
class Checkpointer:
    """Writes checkpoints in a thread of its own.

    Attributes:
        run_dir: the folder of checkpoints.
        is_main: whether this process publishes. processes: how many there are.
        sharded: the form of the checkpoints.
        in_background: whether training goes on meanwhile; else every save waits until it is written.
        beside: writes what describes the finished model into a folder of the checkpoint; None for nothing.
        after: called by the main process when a checkpoint has its place.
        timeout: how long the processes wait for each other.
        waited: the seconds that training waited for checkpoints.
    """

    run_dir: Path
    is_main: bool = True
    processes: int = 1
    sharded: bool = False
    in_background: bool = True
    beside: Callable[[Path], None] | None = None
    after: Callable[[TrainerState], None] = lambda state: None
    timeout: timedelta = timedelta(seconds=TIMEOUT_S)
    waited: float = 0.0
    _thread: threading.Thread | None = None
    _failure: str = ""
    _error: BaseException | None = None
    _group: Any = field(default=None)  # of the threads, which do not meet training's own messages

    def save(self, name: str, snapshot: Snapshot) -> None:
        """Copy a snapshot, and write it as the checkpoint of a name. All processes call it, after `finish`.

        Raises:
            UserError: it cannot be written, and nothing is written in the background.
        """
        started = time.perf_counter()
        self._prepare()
        snapshot.tensors = self._copied(snapshot.tensors)
        self._thread = threading.Thread(target=self._work, args=(name, snapshot), name="checkpoint", daemon=True)
        self._thread.start()
        self.waited += time.perf_counter() - started
        if not self.in_background:
            self.finish()

    def finish(self) -> None:
        """Wait until the last checkpoint has its place. All processes call it.

        Raises:
            UserError: it could not be written, by this process or another one.
        """
        started = time.perf_counter()
        self.wait_here()
        failures = gather_object([self._failure]) if self.processes > 1 else [self._failure]
        self.waited += time.perf_counter() - started
        own, self._failure, self._error = self._error, "", None
        if own is not None and not _cannot_write(own):
            raise own
        told = next((failure for failure in failures if failure), None)
        if told is not None:
            raise UserError(told) from own

    def wait_here(self) -> None:
        """Wait for the thread of this process alone, where a run ends by an error and others may be gone."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _prepare(self) -> None:
        if self.processes > 1 and self.sharded and self._group is None:
            self._group = distributed.new_group(backend="gloo", timeout=self.timeout)
        staging = self.run_dir / STAGING
        if self.is_main:
            shutil.rmtree(staging, ignore_errors=True)
        if self.processes > 1:
            distributed.barrier()

    def _copied(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies in this process's memory: of its shares, or in the main process of whole tensors."""
        if not self.sharded:
            wholes: dict[int, Tensor] = {}  # tied weights stay one tensor
            for tensor in tensors.values():
                if id(tensor) not in wholes:
                    whole = gathered(tensor)
                    wholes[id(tensor)] = whole.detach().to("cpu", copy=True) if self.is_main else torch.empty(0)
            return {name: wholes[id(tensor)] for name, tensor in tensors.items()}
        stager = DefaultStager(StagingOptions(False, False, False, False))
        staged: Any = stager.stage({name: tensor.detach() for name, tensor in tensors.items()})
        stager.close()
        return staged

    def _work(self, name: str, snapshot: Snapshot) -> None:
        """The thread: write and publish, and remember what went wrong."""
        folder = self.run_dir / STAGING / name
        try:
            self._write(folder, snapshot)
            if self.is_main:
                self._publish(folder, snapshot)
        except BaseException as error:
            self._error = error
            self._failure = self._told(error, name)
            if self.is_main:
                shutil.rmtree(self.run_dir / STAGING, ignore_errors=True)

    def _write(self, folder: Path, snapshot: Snapshot) -> None:
        """Write what this process has to write; of a sharded checkpoint, wait for the others too."""
        if self.sharded:  # first, for it is what tells all processes of a failure in one of them
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says that one process writes alone, which is meant
                dcp.save(
                    snapshot.tensors,
                    storage_writer=dcp.FileSystemWriter(folder / SHARDS),
                    process_group=self._group,
                    no_dist=self.processes == 1,
                )
        if not self.is_main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if self.sharded:
            torch.save(snapshot.optimizer, folder / OPTIMIZER_REST)
        else:
            _write_whole(folder, snapshot)
        for name, content in snapshot.files.items():
            torch.save(content, folder / name)
        if self.beside is not None:
            self.beside(folder)

    def _publish(self, staged: Path, snapshot: Snapshot) -> None:
        write_bytes(staged / TRAINER_STATE_NAME, state_text(snapshot.state).encode())
        give_usual_modes(staged)
        seal(staged, snapshot.progress)
        final = self.run_dir / staged.name
        if final.exists():
            shutil.rmtree(final)
        staged.rename(final)
        shutil.rmtree(staged.parent, ignore_errors=True)
        self.after(snapshot.state)

    def _told(self, error: BaseException, name: str) -> str:
        """What the user reads of a failure: a failure to write, as on a full disk, in words of the user's."""
        reason = one_line(cast(Exception, _innermost(error)))[:200]
        if not _cannot_write(error):
            return f"the checkpoint {name} could not be made ({type(error).__name__}: {reason})"
        free = shutil.disk_usage(self.run_dir).free
        return (
            f"the checkpoint of step {name.rpartition('-')[2]} could not be written to {self.run_dir} ({reason}; "
            f"{free / 2**20:,.0f} MiB are free): the one before it is kept; make room, and continue with --resume"
        )


def _write_whole(folder: Path, snapshot: Snapshot) -> None:
    """The model, the optimizer and the average, as transformers' Trainer names them."""
    model, tensors = snapshot.model, snapshot.part(MODEL)
    if isinstance(model, PreTrainedModel) or is_adapted(model):
        cast(Any, model).save_pretrained(folder, state_dict=tensors)
    else:
        save_file(tensors, folder / MODEL_FILE, metadata={"format": "pt"})
    torch.save(join_optimizer(snapshot.part(OPTIMIZER), snapshot.optimizer), folder / OPTIMIZER_FILE)
    average = snapshot.part(AVERAGE)
    if average:
        save_file({name: tensor.contiguous() for name, tensor in average.items()}, folder / EMA_FILE)


def state_text(state: TrainerState) -> str:
    """The text of the Trainer's state, in which the best checkpoint has a name alone: the folder of a run may move."""
    content = asdict(state)
    known = content["best_model_checkpoint"]
    content["best_model_checkpoint"] = Path(known).name if known else None
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _innermost(error: BaseException) -> BaseException:
    """The failure itself: torch.distributed.checkpoint gathers those of all processes in one."""
    failures = getattr(error, "failures", None)
    if isinstance(failures, dict) and failures:
        first = next(iter(failures.values()))
        return first[0] if isinstance(first, tuple) else first
    return error


def _cannot_write(error: BaseException) -> bool:
    inner = _innermost(error)
    signs = ("PytorchStreamWriter", "inline_container", "unexpected pos")
    return isinstance(inner, OSError | SafetensorError) or any(sign in str(inner) for sign in signs)


__all__ = ["STAGING", "Checkpointer", "Snapshot", "state_text"]
