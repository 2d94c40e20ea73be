"""One training run: a recipe and a folder in, a model, metrics and a report out."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..analysis import measure_layers
from ..analysis.figures import layers_figure
from ..analysis.output import write_bytes, write_json
from ..errors import UserError
from ..upstream import TRAINER_STATE_NAME, PrinterCallback, TrainerState
from .arguments import optimizer_of, steps_per_epoch, training_arguments
from .callbacks import Ema, GracefulStop, MeasureLayers, ProgressLine, SetEpoch
from .figures import curves_figure, layer_heat_figure
from .quiet import quiet_transformers
from .recipe import Recipe, recipe_of
from .report import Section, write_report
from .tasks import CACHE, Task, task_of
from .trainer import CrateTrainer, checkpoints_in

RECIPE_FILE, METRICS_FILE, REPORT_FILE, CHECKPOINTS = "recipe.yaml", "metrics.json", "report.html", "checkpoints"


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
    if state.is_main_process:
        _prepare_folder(output, resume, overwrite)
    state.wait_for_everyone()
    stored = _stored_recipe(output)
    if stored is not None:
        _check_same(stored, recipe, output)
        if (output / METRICS_FILE).is_file():
            metrics = yaml.safe_load((output / METRICS_FILE).read_text(encoding="utf-8"))
            return RunResult(output, "was finished", 0, metrics)
    with quiet_transformers():
        task = task_of(recipe, output)
        if state.is_main_process:
            write_bytes(output / RECIPE_FILE, yaml.safe_dump(recipe.to_dict(), sort_keys=False).encode())
        state.wait_for_everyone()
        return _run(recipe, task, output, say)


def _run(recipe: Recipe, task: Task, output: Path, say: Callable[[str], None]) -> RunResult:
    trainer, ema = _build_trainer(recipe, task, output)
    if trainer.is_world_process_zero():
        for note in task.notes:
            say(note)
    checkpoints = checkpoints_in(output / CHECKPOINTS)
    if checkpoints:
        say(f"continuing from {checkpoints[-1].name}")
        if ema is not None:
            ema.load(checkpoints[-1])
    started = time.perf_counter()
    with GracefulStop() as stop:
        trainer.add_callback(stop)
        try:
            train_metrics = _train(trainer, checkpoints[-1] if checkpoints else None)
        finally:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, ProgressLine):
                    callback.close()
    seconds = time.perf_counter() - started
    if stop.stopped and trainer.state.global_step < trainer.state.max_steps:
        return RunResult(output, "interrupted", trainer.state.global_step, {})

    if ema is not None:
        best = trainer.state.best_model_checkpoint
        if best:
            ema.load(Path(best))
        ema.keep_in(trainer.accelerator.unwrap_model(trainer.model))
        trainer.ema = None
    metrics = _measure(recipe, task, trainer, train_metrics, seconds)
    if trainer.is_world_process_zero():
        for line in task.verdict(metrics):
            task.notes.append(line)
            say(line)
        _save_model(task, output)
        _report(recipe, task, trainer, output, metrics)
        write_json(output / METRICS_FILE, metrics)  # last: its presence says that the run is whole
    trainer.accelerator.wait_for_everyone()
    return RunResult(output, "finished", trainer.state.global_step, metrics)


def _train(trainer: CrateTrainer, checkpoint: Path | None) -> dict[str, float]:
    """Train, from a checkpoint where there is one; at the last step only load, for the Trainer would take one more."""
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        if state.global_step >= state.max_steps:
            best = state.best_model_checkpoint if trainer.args.load_best_model_at_end else None
            trainer._load_from_checkpoint(best or str(checkpoint))
            trainer.state = state
            return {}
    return trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None).metrics


def _build_trainer(recipe: Recipe, task: Task, output: Path) -> tuple[CrateTrainer, Ema | None]:
    samples = len(task.train_data) if hasattr(task.train_data, "__len__") else None
    batch = recipe.arguments.get("per_device_train_batch_size", 8) * PartialState().num_processes
    enough = samples is not None and samples >= batch  # of fewer samples than a batch, dropping would leave none
    drop_last = recipe.arguments.get("dataloader_drop_last", enough)
    steps = steps_per_epoch(samples, batch, recipe.arguments.get("gradient_accumulation_steps", 1), drop_last)
    metric = task.metric if task.validation_data is not None else None
    arguments = training_arguments(recipe, output / CHECKPOINTS, steps, metric, task.greater_is_better, task.notes)
    arguments.dataloader_drop_last = drop_last
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
    )
    trainer.remove_callback(PrinterCallback)
    for callback in (SetEpoch(), ProgressLine(), *([ema] if ema else []), *task.callbacks()):
        trainer.add_callback(callback)
    if recipe.train.measure_every:
        samples = task.sample_inputs(64)
        trainer.add_callback(MeasureLayers(lambda model: measure_layers(model, samples), recipe.train.measure_every))
    return trainer, ema


def _measure(
    recipe: Recipe, task: Task, trainer: CrateTrainer, train_metrics: dict[str, float], seconds: float
) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "train": {
            "loss": train_metrics.get("train_loss"),
            "steps": trainer.state.global_step,
            "epochs": trainer.state.epoch,
            "seconds": round(seconds, 2),
            "samples_per_second": train_metrics.get("train_samples_per_second"),
            "data_wait_fraction": round(trainer.data_seconds / max(seconds, 1e-9), 4),
        }
    }
    for part, data in (("validation", task.validation_data), ("test", task.test_data)):
        if data is not None:
            found = trainer.evaluate(data, metric_key_prefix=part)
            prefix, skipped = f"{part}_", ("runtime", "samples_per_second", "steps_per_second", "preparation_time")
            named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
            kept = {name: value for name, value in named.items() if name not in skipped}
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
    for file in staging.iterdir():
        file.replace(output / file.name)
    staging.rmdir()


def _report(recipe: Recipe, task: Task, trainer: CrateTrainer, output: Path, metrics: dict[str, Any]) -> None:
    history, model = trainer.state.log_history, task.finished_model().eval()
    rows = [
        {"": f"{part} {name}", "value": _readable(value)}
        for part, values in metrics.items()
        for name, value in values.items()
    ]
    sections = [
        Section("Result", table=rows, details=task.notes),
        Section("Curves", figures=[curves_figure(history, task.metric)]),
        *task.report(model, history),
        *_layer_sections(recipe, task, model, history),
    ]
    write_report(output / REPORT_FILE, f"{recipe.name}: {type(model).__name__}", sections, recipe.to_dict())


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


# -- the folder -------------------------------------------------------------------------------------------------------


def _prepare_folder(output: Path, resume: bool, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    if output.is_dir() and any(output.iterdir()):
        if not (output / RECIPE_FILE).is_file() and not _is_leftover(output):
            raise UserError(f"{output} holds files that are no run of ours: name another folder")
        if overwrite:
            shutil.rmtree(output)
        elif not resume and (output / RECIPE_FILE).is_file():
            raise UserError(f"{output} already holds a run: pass --resume to continue it or --overwrite to replace it")
    output.mkdir(parents=True, exist_ok=True)


def _is_leftover(output: Path) -> bool:
    """Only what a run that was cut off in its first moment leaves."""
    own = [*output.glob(f".{RECIPE_FILE}*"), *output.glob(CACHE), *output.glob(f"{CACHE}/*tokens-*")]
    return set(output.rglob("*")) <= set(own)


def _stored_recipe(output: Path) -> Recipe | None:
    path = output / RECIPE_FILE
    if not path.is_file():
        return None
    return recipe_of(yaml.safe_load(path.read_text(encoding="utf-8")))


def _check_same(stored: Recipe, asked: Recipe, output: Path) -> None:
    before, now = _flat(stored.to_dict()), _flat(asked.to_dict())
    for key in sorted(before.keys() | now.keys()):
        if key != "name" and before.get(key) != now.get(key):
            raise UserError(
                f"the run in {output} was started with {key} = {before.get(key)!r}, now it is {now.get(key)!r}: "
                "resume it with the same settings, or pass --overwrite"
            )


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, values in content.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            flat[section] = values
    return flat


__all__ = ["METRICS_FILE", "RECIPE_FILE", "REPORT_FILE", "RunResult", "count_flops", "train"]
