"""One training run: a recipe and a folder in, a model, metrics and a report out."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..analysis import measure_layers
from ..analysis.figures import layers_figure
from ..analysis.output import write_json
from ..errors import UserError, one_line
from ..evaluation.run_folder import CHECKPOINTS, METRICS_FILE, RECIPE_FILE, REPORT_FILE
from ..files import give_usual_modes, write_bytes
from ..models.quiet import quiet_transformers
from ..recipes.schema import Recipe
from ..upstream import TRAINER_STATE_NAME, PrinterCallback, TrainerState
from .arguments import optimizer_of, steps_per_epoch, training_arguments
from .callbacks import Ema, GracefulStop, MeasureLayers, NoticeCrowding, ProgressLine, SetEpoch
from .checkpoints import Checkpoint, latest_checkpoint
from .figures import curves_figure, layer_heat_figure
from .folder import check_same, claimed, finished_metrics
from .report import Section, write_report
from .tasks import Task, task_of
from .trainer import CrateTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """status: "finished", "interrupted", or "was finished" (nothing was done). metrics: what metrics.json holds."""

    output: Path
    status: str
    step: int
    metrics: dict[str, Any]


def train(
    recipe: Recipe,
    output: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Train a recipe.

    Args:
        output: the run's folder: the model in Hugging Face's layout, metrics.json, recipe.yaml, report.html and the
            checkpoints. Nothing is written elsewhere.
        resume: continue the run in the folder; start it where the folder is empty; do nothing where it is finished.
        overwrite: delete the run in the folder first.
        say: receives a line for everything worth knowing before the end.

    Raises:
        ValueError: a recipe, data or model that do not fit; a folder that already holds a run; a loss that is not
            finite (the last checkpoint is kept).
    """
    output = Path(output)
    state = PartialState(cpu=not torch.accelerator.is_available())  # else processes on CPUs do not find each other
    with claimed(output, resume, overwrite, state.is_main_process):
        state.wait_for_everyone()
        check_same(recipe, output)
        metrics = finished_metrics(output)
        if metrics is not None:
            return RunResult(output, "was finished", 0, metrics)
        with quiet_transformers():
            return _run(recipe, task_of(recipe, output), output, say)


def _run(recipe: Recipe, task: Task, output: Path, say: Callable[[str], None]) -> RunResult:
    checkpoint = _checkpoint_to_continue(output, say)
    trainer, ema = _build_trainer(recipe, task, output, checkpoint, say)
    if trainer.is_world_process_zero():
        write_bytes(output / RECIPE_FILE, recipe.to_yaml().encode())  # now that all fits: from here on it holds a run
        for note in task.notes:
            say(note)
        if checkpoint is not None:
            say(f"continuing from {checkpoint.folder.name}")
    trainer.accelerator.wait_for_everyone()
    if checkpoint is not None and ema is not None:
        ema.load(checkpoint.folder)
    with GracefulStop() as stop:
        trainer.add_callback(stop)
        try:
            _train(trainer, checkpoint)
        finally:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, ProgressLine):
                    callback.close()
    if stop.stopped and trainer.state.global_step < trainer.state.max_steps:
        return RunResult(output, "interrupted", trainer.state.global_step, {})
    seconds = trainer.seconds
    if ema is not None:
        best = trainer.state.best_model_checkpoint
        if best:
            ema.load(Path(best))
        ema.keep_in(trainer.accelerator.unwrap_model(trainer.model))
        trainer.ema = None
    metrics = _measure(recipe, task, trainer, seconds)
    if trainer.is_world_process_zero():
        for line in task.verdict(metrics):
            task.notes.append(line)
            say(line)
        _save_model(task, output)
        write_json(output / METRICS_FILE, metrics)
        _report(recipe, task, trainer, output, metrics, say)  # last: its presence says that the run is whole
    trainer.accelerator.wait_for_everyone()
    return RunResult(output, "finished", trainer.state.global_step, metrics)


def _checkpoint_to_continue(output: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint, chosen by the main process for all.

    Raises:
        UserError: none is whole.
    """
    state, chosen = PartialState(), [None, None]
    if state.is_main_process:
        try:
            found = latest_checkpoint(output / CHECKPOINTS, say)
            chosen = [found, None]
        except UserError as error:
            chosen = [None, str(error)]
    checkpoint, problem = broadcast_object_list(chosen)
    if problem is not None:
        raise UserError(problem)
    return checkpoint


def _train(trainer: CrateTrainer, checkpoint: Checkpoint | None) -> None:
    """Train, from a checkpoint where there is one; at the last step only load, for the Trainer would take one more."""
    if checkpoint is None or not checkpoint.is_last:
        trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
        return
    state = TrainerState.load_from_json(str(checkpoint.folder / TRAINER_STATE_NAME))
    state.best_model_checkpoint = str(checkpoint.best) if checkpoint.best else None
    best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
    trainer._load_from_checkpoint(best or str(checkpoint.folder))
    trainer.state = state


def _batch_size(recipe: Recipe, checkpoint: Checkpoint | None, say: Callable[[str], None]) -> int:
    """Samples that a process takes at a time: the recipe's; in a run that another number of processes began, so many
    that all take as many together as before, and so the same ones in every step.

    Raises:
        UserError: that number cannot be divided among the processes.
    """
    asked = int(recipe.arguments.get("per_device_train_batch_size", 8))
    state, before = PartialState(), checkpoint.progress if checkpoint else None
    if before is None or state.num_processes == before.processes:
        return before.batch_size if before else asked
    together = before.processes * before.batch_size
    if together % state.num_processes:
        raise UserError(
            f"the run was started with {before.processes} processes that take {before.batch_size} samples each: "
            f"{together} cannot be divided among {state.num_processes}; continue it with a number that divides it"
        )
    if state.is_main_process:
        say(
            f"the run was started with {before.processes} processes, now there are {state.num_processes}: each takes "
            f"{together // state.num_processes} samples, so that a step sees the same {together} (dropout, if there is "
            "any, draws other numbers)"
        )
    return together // state.num_processes


def _build_trainer(
    recipe: Recipe, task: Task, output: Path, checkpoint: Checkpoint | None, say: Callable[[str], None]
) -> tuple[CrateTrainer, Ema | None]:
    samples = len(task.train_data) if hasattr(task.train_data, "__len__") else None
    per_process = _batch_size(recipe, checkpoint, say)
    batch = per_process * PartialState().num_processes
    enough = samples is not None and samples >= batch  # of fewer samples than a batch, dropping would leave none
    drop_last = recipe.arguments.get("dataloader_drop_last", enough)
    steps = steps_per_epoch(samples, batch, recipe.arguments.get("gradient_accumulation_steps", 1), drop_last)
    metric = task.metric if task.validation_data is not None else None
    arguments = training_arguments(recipe, output / CHECKPOINTS, steps, metric, task.greater_is_better, task.notes)
    arguments.dataloader_drop_last, arguments.per_device_train_batch_size = drop_last, per_process
    arguments.label_names = list(task.label_names)
    ema = Ema(task.model, recipe.train.ema_decay) if recipe.train.ema_decay is not None else None
    trainer = CrateTrainer(
        model=task.model,
        args=arguments,
        data_collator=task.collator,
        evaluation_collator=task.evaluation_collator,
        train_dataset=task.train_data,
        eval_dataset=task.validation_data,
        compute_metrics=task.compute_metrics,
        preprocess_logits_for_metrics=task.reduce_outputs,
        optimizer_cls_and_kwargs=optimizer_of(recipe, arguments),
        keyed=task.keyed,
        ema=ema,
        count_items=task.count_items,
        progress=checkpoint.progress if checkpoint else None,
    )
    trainer.remove_callback(PrinterCallback)
    crowding = NoticeCrowding(lambda: trainer.data_seconds, say)
    for callback in (SetEpoch(), ProgressLine(say), crowding, *([ema] if ema else []), *task.callbacks()):
        trainer.add_callback(callback)
    if recipe.train.measure_every:
        samples = task.sample_inputs(64)
        trainer.add_callback(MeasureLayers(lambda model: measure_layers(model, samples), recipe.train.measure_every))
    return trainer, ema


def _measure(recipe: Recipe, task: Task, trainer: CrateTrainer, seconds: float) -> dict[str, Any]:
    samples = trainer.state.global_step * trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps
    metrics: dict[str, Any] = {
        "train": {
            "loss": trainer.mean_loss,
            "steps": trainer.state.global_step,
            "epochs": trainer.state.epoch,
            "seconds": round(seconds, 2),
            "samples_per_second": round(samples * trainer.accelerator.num_processes / max(seconds, 1e-9), 3),
            "data_wait_fraction": round(trainer.data_seconds / max(seconds, 1e-9), 4),
        }
    }
    for part, data in (("validation", task.validation_data), ("test", task.test_data)):
        if data is not None:
            found = trainer.evaluate(data, metric_key_prefix=part)
            prefix, skipped = f"{part}_", ("runtime", "per_second", "preparation_time")
            named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
            kept = {name: value for name, value in named.items() if not name.endswith(skipped)}
            metrics[part] = task.complete(kept, part)
    model = task.finished_model()
    metrics["model"] = {"parameters": model.num_parameters(), "flops": count_flops(model, task.flop_inputs())}
    return metrics


@torch.no_grad()
def count_flops(model: PreTrainedModel, inputs: dict[str, Any]) -> int:
    """Floating-point operations of one forward pass, two a multiply-add, as torch counts them."""
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(**{name: value.to(model.device) for name, value in inputs.items()})
    model.train(was_training)
    return int(counter.get_total_flops())


def _save_model(task: Task, output: Path) -> None:
    """Save the model beside its place, then move it file by file."""
    staging = output / ".model"
    shutil.rmtree(staging, ignore_errors=True)
    task.finished_model().save_pretrained(staging)
    task.save_beside(staging)
    give_usual_modes(staging)
    for file in staging.iterdir():
        file.replace(output / file.name)
    staging.rmdir()


def _report(
    recipe: Recipe,
    task: Task,
    trainer: CrateTrainer,
    output: Path,
    metrics: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Draw the report; one that cannot be drawn is told, in its place too, and does not fail a run that is done."""
    history, model = trainer.state.log_history, task.finished_model().eval()
    rows = [
        {"": f"{part} {name}", "value": _readable(value)}
        for part, values in metrics.items()
        for name, value in values.items()
    ]
    result, title = Section("Result", table=rows, details=task.notes), f"{recipe.name}: {type(model).__name__}"
    try:
        sections = [
            result,
            Section("Curves", figures=[curves_figure(history, task.metric)]),
            *task.report(model, history),
            *_layer_sections(recipe, task, model, history),
        ]
        write_report(output / REPORT_FILE, title, sections, recipe.to_dict())
    except Exception as error:  # whatever it is: model and metrics are there
        reason = f"{type(error).__name__}: {one_line(error)}"
        say(f"the report could not be drawn ({reason}); model and metrics.json are complete")
        logger.debug("the report could not be drawn", exc_info=True)
        write_report(output / REPORT_FILE, title, [result, Section("Not drawn", reason)], recipe.to_dict())


def _layer_sections(recipe: Recipe, task: Task, model: PreTrainedModel, history: list[Any]) -> list[Section]:
    samples = task.sample_inputs(256)
    record = measure_layers(model, samples)
    count = len(next(iter(samples.values())))
    sections = [
        Section(
            "What the layers do",
            f"Coding rate of the tokens under each layer's subspaces (official mode: unit tokens, epsilon = 0.1) and "
            f"fraction of non-zero codes after the sparsification; mean and standard deviation over {count} samples.",
            [layers_figure({type(model).__name__: record})],
        )
    ]
    heat = layer_heat_figure(history)
    if heat is not None:
        text = f"The same measures every {recipe.train.measure_every} steps: compression as it is learnt."
        sections.append(Section("Layers over training", text, [heat]))
    return sections


def _readable(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


__all__ = ["METRICS_FILE", "RECIPE_FILE", "REPORT_FILE", "RunResult", "count_flops", "train"]
