"""Callbacks of every run: epochs for the sampler, a graceful stop, a progress line, layer-wise measures."""

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data import KeyedBatches

_CROWDED = 0.7  # a run that has the machine for itself gets a larger share of its threads' time


class SetEpoch(TrainerCallback):
    """Gives the loader the number of the epoch, and of the first batch that a run which is resumed has not seen."""

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: object = None,
        **kwargs: object,
    ) -> None:
        batches = find_batches(train_dataloader)
        if batches is not None:
            accumulation = args.gradient_accumulation_steps
            steps = max(1, math.ceil(len(batches) / accumulation))
            batches.sampler.set_epoch(int(state.epoch or 0))
            batches.start = state.global_step % steps * accumulation


def find_batches(loader: object) -> KeyedBatches | None:
    """The KeyedBatches inside a loader that accelerate may have wrapped; None where there are none."""
    waiting, seen = [loader], 0
    while waiting and seen < 32:
        item, seen = waiting.pop(), seen + 1
        if isinstance(item, KeyedBatches):
            return item
        for name in ("batch_sampler", "base_dataloader"):
            inner = getattr(item, name, None)
            if inner is not None:
                waiting.append(inner)
    return None


class GracefulStop(TrainerCallback):
    """The first Ctrl-C (or SIGTERM, or SIGHUP) ends the step, saves and stops; the second stops at once.

    Several processes get their signals at different steps, so they stop when all know of it.

    Args:
        processes: how many there are.

    Attributes:
        asked: whether this process had the signal. agreed: whether all processes know that one had.
    """

    def __init__(self, processes: int = 1) -> None:
        self.asked = self.agreed = False
        self.processes = processes
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}  # handlers by signal

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    @property
    def stopped(self) -> bool:
        """Whether the run stops at the end of this step."""
        return self.agreed if self.processes > 1 else self.asked

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True


class ProgressLine(TrainerCallback):
    """Shows a progress bar with the loss and the validation metrics, or lines of text where there is no terminal.

    Args:
        on_note: receives the lines. every: seconds between two lines, at least.
    """

    def __init__(self, on_note: Callable[[str], None] = print, every: float = 10.0) -> None:
        self.on_note, self.every = on_note, every
        self.started = self.last_line = (0.0, 0)  # (seconds, step) of the beginning, and of the last line
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self.task: TaskID | None = None  # of the bar; None without a terminal
        self.status: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.started = self.last_line = (time.monotonic(), state.global_step)
        if state.is_world_process_zero and self.progress.console.is_terminal:
            self.progress.start()
            self.task = self.progress.add_task("train", total=state.max_steps, completed=state.global_step, status="")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.task is not None:
            self.progress.update(self.task, completed=state.global_step)
        elif state.is_world_process_zero and self._is_due(state):
            self.last_line = (time.monotonic(), state.global_step)
            self.on_note(self.line(state))

    def _is_due(self, state: TrainerState) -> bool:
        long_ago = time.monotonic() - self.last_line[0] >= self.every
        return (long_ago or state.global_step >= state.max_steps) and state.global_step > self.last_line[1]

    def line(self, state: TrainerState) -> str:
        """A line with the steps, the losses and metrics, and the time that is left at the speed so far."""
        begun, first = self.started
        left = (time.monotonic() - begun) / max(state.global_step - first, 1) * (state.max_steps - state.global_step)
        parts = [f"step {state.global_step} of {state.max_steps}", *(f"{k} {v}" for k, v in self.status.items())]
        return ", ".join([*parts, f"{timedelta(seconds=round(left))} left"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        for name in ("loss", "eval_loss", "eval_accuracy", "eval_bits_per_byte"):
            if logs and isinstance(logs.get(name), int | float):
                self.status[name.replace("eval_", "validation ")] = f"{logs[name]:.4f}"
        if self.task is not None:
            self.progress.update(self.task, status=", ".join(f"{k} {v}" for k, v in self.status.items()))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal."""
        self.progress.stop()


class NoticeCrowding(TrainerCallback):
    """Notes once that other work takes the processors of this machine, which slows threads that wait for each other.

    The sign is the share of its threads' time in which this process ran, where waiting for data does not count. It is
    near 1 for a run that has the machine for itself.

    Args:
        waited: gives the seconds that the run has waited for data so far.
        on_note: receives the line.
        after: seconds of training after which the share is judged.
    """

    def __init__(self, waited: Callable[[], float], on_note: Callable[[str], None], after: float = 15.0):
        self.waited, self.on_note, self.after = waited, on_note, after
        self.threads = torch.get_num_threads()
        self.is_done = False
        self._begin()

    def _begin(self) -> None:
        self.start = time.perf_counter() - self.waited(), time.process_time()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.is_done = self.threads < 2 or args.device.type != "cpu" or not state.is_world_process_zero
        self._begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        seconds = time.perf_counter() - self.waited() - self.start[0]
        if self.is_done or seconds < self.after:
            return
        self.is_done = True
        share = (time.process_time() - self.start[1]) / (seconds * self.threads)
        if share < _CROWDED:
            self.on_note(
                f"this run gets {share:.0%} of the time of its {self.threads} threads: other work takes the "
                "processors, and threads that wait for each other slow a small model down many times over; with "
                "OMP_NUM_THREADS=1 in the environment it does not wait (docs/reliability.md)"
            )


class LayerRecord(Protocol):
    """What `MeasureLayers` logs of the layers: one number a layer."""

    @property
    def coding_rate_mean(self) -> Sequence[float]:
        """R^c, nats."""

    @property
    def nonzero_fraction_mean(self) -> Sequence[float]:
        """Fraction of the code's entries that are not 0."""


class MeasureLayers(TrainerCallback):
    """Logs the coding rate and the non-zero fraction of every layer beside the loss, every `every` steps.

    Args:
        whole_model: gives the model with all its weights, which all processes ask for and one measures.
    """

    def __init__(self, measure: Callable[[nn.Module], LayerRecord], every: int, whole_model: Callable[[], nn.Module]):
        self.measure, self.every, self.whole_model = measure, every, whole_model

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.global_step % self.every:
            return
        model = self.whole_model()
        if not state.is_world_process_zero:
            return
        was_training = model.training
        model.eval()
        with torch.random.fork_rng():
            record = self.measure(model)
        model.train(was_training)
        history: list[dict[str, Any]] = state.log_history
        history.append(
            {
                "step": state.global_step,
                "epoch": state.epoch,
                "layer_coding_rate": [float(value) for value in record.coding_rate_mean],
                "layer_nonzero_fraction": [float(value) for value in record.nonzero_fraction_mean],
            }
        )


__all__ = [
    "GracefulStop",
    "MeasureLayers",
    "NoticeCrowding",
    "ProgressLine",
    "SetEpoch",
    "find_batches",
]
