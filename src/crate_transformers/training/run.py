"""One training run: a recipe and a folder in, a model, metrics and a report out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from ..evaluation.run_folder import CHECKPOINTS, METRICS_FILE, RECIPE_FILE, REPORT_FILE
from ..files import write_bytes
from ..launcher import end_with_launcher, timeout_of
from ..models.quiet import quiet_transformers
from ..recipes.schema import Recipe
from ..report.writing import write_json
from ..upstream import TRAINER_STATE_NAME, TrainerState
from .assembly import build_trainer, checkpoint_to_continue
from .callbacks import GracefulStop, ProgressLine
from .checkpoints import Checkpoint
from .folder import check_same, claimed, finished_metrics
from .results import count_flops, measure_run, save_model
from .run_report import report_run
from .tasks import Task, task_of
from .trainer import CrateTrainer


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        output: the folder of the run. step: the last step.
        status: "finished", "interrupted", or "was finished" where there was nothing to do.
        metrics: the content of metrics.json; empty for a run that was interrupted.
        is_main: whether this process is the one of its run that writes and speaks.
    """

    output: Path
    status: str
    step: int
    metrics: dict[str, Any]
    is_main: bool = True


def train(
    recipe: Recipe,
    output: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Train a recipe.

    Args:
        output: the folder of the run. It gets the model in Hugging Face's layout, metrics.json, recipe.yaml,
            report.html and the checkpoints; nothing is written elsewhere.
        resume: continue the run in the folder; start it where the folder is empty; do nothing where it is finished.
        overwrite: delete the run in the folder first.
        on_note: receives lines for the user during the run.

    Raises:
        ValueError: recipe, data and model do not fit; the folder already holds a run; the loss is not finite (the
            last checkpoint is kept).
    """
    output = Path(output)
    end_with_launcher()
    on_cpu = not torch.accelerator.is_available()  # said, for else processes on CPUs do not find each other
    state = PartialState(cpu=on_cpu, timeout=timeout_of(recipe.arguments.get("ddp_timeout")))
    with claimed(output, resume, overwrite, state.is_main_process):
        state.wait_for_everyone()
        check_same(recipe, output)
        metrics = finished_metrics(output)
        if metrics is not None:
            return RunResult(output, "was finished", 0, metrics, state.is_main_process)
        with quiet_transformers():
            return _run(recipe, task_of(recipe, output), output, on_note)


def _run(recipe: Recipe, task: Task, output: Path, on_note: Callable[[str], None]) -> RunResult:
    """Run a task from its checkpoint, or its beginning, to its results."""
    checkpoint = checkpoint_to_continue(output / CHECKPOINTS, on_note)
    trainer = build_trainer(recipe, task, output / CHECKPOINTS, checkpoint, on_note)
    if trainer.is_world_process_zero():
        _announce(recipe, task, output, checkpoint, on_note)
    trainer.accelerator.wait_for_everyone()
    is_main = trainer.is_world_process_zero()
    if not _train_to_the_end(trainer, checkpoint):
        return RunResult(output, "interrupted", trainer.state.global_step, {}, is_main)
    seconds = trainer.seconds
    _keep_average(trainer)
    metrics = measure_run(task, trainer, seconds)
    if is_main:
        _leave_results(recipe, task, output, trainer.state.log_history, metrics, on_note)
    trainer.accelerator.wait_for_everyone()
    return RunResult(output, "finished", trainer.state.global_step, metrics, is_main)


def _announce(
    recipe: Recipe, task: Task, output: Path, checkpoint: Checkpoint | None, on_note: Callable[[str], None]
) -> None:
    """Write the recipe, with which the folder holds a run, and pass on the notes for the user."""
    write_bytes(output / RECIPE_FILE, recipe.to_yaml().encode())
    for note in task.notes:
        on_note(note)
    if checkpoint is not None:
        on_note(f"continuing from {checkpoint.folder.name}")


def _train_to_the_end(trainer: CrateTrainer, checkpoint: Checkpoint | None) -> bool:
    """Train until the last step, or until a signal asks to stop.

    Returns:
        whether the last step was reached.
    """
    with GracefulStop(trainer.accelerator.num_processes) as stop:
        trainer.add_callback(stop)
        trainer.stop = stop
        try:
            _train(trainer, checkpoint)
            trainer.checkpointer.finish()
        except Exception:
            trainer.checkpointer.wait_here()  # what was copied before the error is kept
            raise
        finally:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, ProgressLine):
                    callback.close()
    return not stop.stopped or trainer.state.global_step >= trainer.state.max_steps


def _train(trainer: CrateTrainer, checkpoint: Checkpoint | None) -> None:
    """Train, from a checkpoint where there is one.

    A checkpoint of the last step is only loaded, because the Trainer would make one more step.
    """
    if checkpoint is None or not checkpoint.is_last:
        trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        return
    state = TrainerState.load_from_json(str(checkpoint.folder / TRAINER_STATE_NAME))
    state.best_model_checkpoint = str(checkpoint.best) if checkpoint.best else None
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or str(checkpoint.folder))
    trainer.load_average(checkpoint.folder)
    trainer.state = state


def _keep_average(trainer: CrateTrainer) -> None:
    """Give the model the average of the weights, that of the best checkpoint, where the run has an average."""
    if trainer.ema is None:
        return
    best = trainer.state.best_model_checkpoint
    if best:
        trainer.load_average(Path(best))
    trainer.ema.keep_in(trainer.accelerator.unwrap_model(trainer.model))
    trainer.ema = None


def _leave_results(
    recipe: Recipe,
    task: Task,
    output: Path,
    history: list[dict[str, Any]],
    metrics: dict[str, Any],
    on_note: Callable[[str], None],
) -> None:
    """Write the model, the metrics and the report. The report comes last: its presence marks the run as finished."""
    for line in task.verdict(metrics):
        task.notes.append(line)
        on_note(line)
    save_model(task, output)
    write_json(output / METRICS_FILE, metrics)
    report_run(output / REPORT_FILE, recipe, task, history, metrics, on_note)


__all__ = ["METRICS_FILE", "RECIPE_FILE", "REPORT_FILE", "RunResult", "count_flops", "train"]
