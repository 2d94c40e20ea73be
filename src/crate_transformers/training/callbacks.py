"""Callbacks: epochs for the sampler, EMA, a graceful stop, a progress line, layer-wise measures."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

from ..data import EpochSampler

EMA_FILE = "ema.safetensors"
_CROWDED = 0.7  # of the threads' time: a run that has the machine for itself gets more


class SetEpoch(TrainerCallback):
    """Tells the sampler which epoch it is, also in the middle of a resumed one."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        sampler = find_sampler(train_dataloader)
        if sampler is not None:
            sampler.set_epoch(int(state.epoch or 0))


def find_sampler(loader: Any) -> EpochSampler | None:
    """The EpochSampler inside whatever accelerate wrapped around it."""
    waiting, seen = [loader], 0
    while waiting and seen < 32:
        item, seen = waiting.pop(), seen + 1
        if isinstance(item, EpochSampler):
            return item
        for name in ("sampler", "batch_sampler", "base_dataloader"):
            inner = getattr(item, name, None)
            if inner is not None:
                waiting.append(inner)
    return None


class Ema(TrainerCallback):
    """An exponential moving average of the weights, evaluated and kept instead of them.

    decay: of the average, per optimizer step. The average is saved with every checkpoint and restored on resume.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=False)

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **kwargs: Any) -> None:
        assert model is not None
        self.average.update_parameters(model)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Within, the model has the average; afterwards its own weights again."""
        own = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        self.keep_in(model)
        try:
            yield
        finally:
            self._copy(own, model)

    def keep_in(self, model: nn.Module) -> None:
        """Give the model the average for good."""
        self._copy(dict(self.average.module.named_parameters()), model)

    def save(self, folder: Path) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in self.average.module.named_parameters()}
        save_file({**tensors, "n_averaged": self.average.n_averaged.cpu()}, folder / EMA_FILE)

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / EMA_FILE)
        self.average.n_averaged.copy_(tensors.pop("n_averaged"))
        self._copy(tensors, self.average.module)

    @staticmethod
    @torch.no_grad()
    def _copy(tensors: dict[str, torch.Tensor], model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[name].to(parameter.device))


class GracefulStop(TrainerCallback):
    """The first Ctrl-C (or SIGTERM, or SIGHUP) ends the step, saves and stops; the second stops at once."""

    def __init__(self) -> None:
        self.stopped = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():
            for number in filter(None, (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True


class ProgressLine(TrainerCallback):
    """A progress bar with the loss and the validation metrics; lines of text, now and then, where it cannot be drawn.

    say: receives the lines. every: seconds between two of them, at least.
    """

    def __init__(self, say: Callable[[str], None] = print, every: float = 10.0) -> None:
        self.say, self.every = say, every
        self.started = self.told = (0.0, 0)  # (time, step)
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self.task: Any = None
        self.status: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = self.told = (time.monotonic(), state.global_step)
        if state.is_world_process_zero and self.progress.console.is_terminal:
            self.progress.start()
            self.task = self.progress.add_task("train", total=state.max_steps, completed=state.global_step, status="")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.task is not None:
            self.progress.update(self.task, completed=state.global_step)
        elif state.is_world_process_zero and self._is_due(state):
            self.told = (time.monotonic(), state.global_step)
            self.say(self.line(state))

    def _is_due(self, state: Any) -> bool:
        long_ago = time.monotonic() - self.told[0] >= self.every
        return (long_ago or state.global_step >= state.max_steps) and state.global_step > self.told[1]

    def line(self, state: Any) -> str:
        """Steps, losses and metrics, the time that is left at the speed so far."""
        begun, first = self.started
        left = (time.monotonic() - begun) / max(state.global_step - first, 1) * (state.max_steps - state.global_step)
        parts = [f"step {state.global_step} of {state.max_steps}", *(f"{k} {v}" for k, v in self.status.items())]
        return ", ".join([*parts, f"{timedelta(seconds=round(left))} left"])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for name in ("loss", "eval_loss", "eval_accuracy", "eval_bits_per_byte"):
            if logs and isinstance(logs.get(name), int | float):
                self.status[name.replace("eval_", "validation ")] = f"{logs[name]:.4f}"
        if self.task is not None:
            self.progress.update(self.task, status=", ".join(f"{k} {v}" for k, v in self.status.items()))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        self.progress.stop()


class NoticeCrowding(TrainerCallback):
    """Says once when other work takes the processors of this machine, which slows threads that wait for each other.

    The share of its threads' time in which this process ran, waiting for data left out, says so: it is near 1 alone.

    waited: seconds that the run waited for data so far. say: receives the line. after: seconds that are looked at.
    """

    def __init__(self, waited: Callable[[], float], say: Callable[[str], None], after: float = 15.0):
        self.waited, self.say, self.after = waited, say, after
        self.threads = torch.get_num_threads()
        self.is_done = False
        self._begin()

    def _begin(self) -> None:
        self.start = time.perf_counter() - self.waited(), time.process_time()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.is_done = self.threads < 2 or args.device.type != "cpu" or not state.is_world_process_zero
        self._begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seconds = time.perf_counter() - self.waited() - self.start[0]
        if self.is_done or seconds < self.after:
            return
        self.is_done = True
        share = (time.process_time() - self.start[1]) / (seconds * self.threads)
        if share < _CROWDED:
            self.say(
                f"this run gets {share:.0%} of the time of its {self.threads} threads: other work takes the "
                "processors, and threads that wait for each other slow a small model down many times over; with "
                "OMP_NUM_THREADS=1 in the environment it does not wait (docs/reliability.md)"
            )


class MeasureLayers(TrainerCallback):
    """Logs layer-wise coding rate and non-zero fraction beside the loss, every `every` steps."""

    def __init__(self, measure: Callable[[nn.Module], Any], every: int):
        self.measure, self.every = measure, every

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **kwargs: Any) -> None:
        if state.global_step % self.every or not state.is_world_process_zero or model is None:
            return
        was_training = model.training
        model.eval()
        with torch.random.fork_rng():
            record = self.measure(model)
        model.train(was_training)
        state.log_history.append(
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
    "find_sampler",
]
