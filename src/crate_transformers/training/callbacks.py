"""Callbacks of every run: epochs for the sampler, EMA, a graceful stop, a progress line, layer-wise measures."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data import KeyedBatches
from ..errors import UserError

EMA_FILE = "ema.safetensors"
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


class Ema(TrainerCallback):
    """An exponential moving average of the weights, which a run evaluates and keeps instead of them.

    The buffers of the model are averaged with the parameters, as the published runs do: the running statistics of a
    BatchNorm are then those of the average. Counts, which are integers, are the model's latest. Every checkpoint holds
    the average, and a run that is resumed goes on with it.

    Args:
        decay: of the average, per optimizer step.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.average = AveragedModel(model, multi_avg_fn=_ema_of_floats(decay), use_buffers=True)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        assert model is not None
        self.average.update_parameters(model)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average within the context, and its own weights and buffers again afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in _saved_tensors(model)}
        self.keep_in(model)
        try:
            yield
        finally:
            self._copy(own, model)

    def keep_in(self, model: nn.Module) -> None:
        """Give the model the average for good."""
        self._copy(dict(_saved_tensors(self.average.module)), model)

    def save(self, folder: Path) -> None:
        """Write the average into the folder of a checkpoint."""
        tensors = {name: tensor.contiguous() for name, tensor in _saved_tensors(self.average.module)}
        save_file({**tensors, "n_averaged": self.average.n_averaged.cpu()}, folder / EMA_FILE)

    def load(self, folder: Path) -> None:
        """Read the average from the folder of a checkpoint.

        Raises:
            UserError: the checkpoint is of an earlier version, which did not average the buffers.
        """
        tensors = load_file(folder / EMA_FILE)
        self.average.n_averaged.copy_(tensors.pop("n_averaged"))
        missing = [name for name, _ in _saved_tensors(self.average.module) if name not in tensors]
        if missing:
            raise UserError(
                f"{folder / EMA_FILE} has no average of {missing[0]}: an earlier version wrote it; start the run again "
                "with --overwrite"
            )
        self._copy(tensors, self.average.module)

    @staticmethod
    @torch.no_grad()
    def _copy(tensors: dict[str, torch.Tensor], model: nn.Module) -> None:
        for name, own in _saved_tensors(model):
            own.copy_(tensors[name].to(own.device))


def _saved_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, a tied one once, and those buffers that belong to the saved model."""
    yield from model.named_parameters()
    saved = model.state_dict(keep_vars=True)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in saved)


def _ema_of_floats(decay: float) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], object], None]:
    """How AveragedModel moves tensors of one type to the latest: integers, which torch would average, it copies."""
    move = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(averages: Sequence[torch.Tensor], latest: Sequence[torch.Tensor], count: object) -> None:
        if averages[0].is_floating_point():
            move(averages, latest, count)
            return
        for average, own in zip(averages, latest, strict=True):
            average.copy_(own)

    return update


class GracefulStop(TrainerCallback):
    """The first Ctrl-C (or SIGTERM, or SIGHUP) ends the step, saves and stops; the second stops at once."""

    def __init__(self) -> None:
        self.stopped = False
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
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

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
    """Logs the coding rate and the non-zero fraction of every layer beside the loss, every `every` steps."""

    def __init__(self, measure: Callable[[nn.Module], LayerRecord], every: int):
        self.measure, self.every = measure, every

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        if state.global_step % self.every or not state.is_world_process_zero or model is None:
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
    "EMA_FILE",
    "Ema",
    "GracefulStop",
    "MeasureLayers",
    "NoticeCrowding",
    "ProgressLine",
    "SetEpoch",
    "find_batches",
]
