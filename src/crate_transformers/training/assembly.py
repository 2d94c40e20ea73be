"""What a run is put together from: the checkpoint that it goes on from, its batches, and the Trainer."""

from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from ..analysis import measure_layers
from ..errors import UserError
from ..recipes.schema import Recipe
from ..upstream import PrinterCallback
from .arguments import optimizer_of, steps_per_epoch, training_arguments
from .callbacks import Ema, MeasureLayers, NoticeCrowding, ProgressLine, SetEpoch
from .checkpoints import Checkpoint, latest_checkpoint
from .tasks import Task
from .trainer import CrateTrainer

_SAMPLES_TO_MEASURE = 64


def checkpoint_to_continue(run_dir: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint in a folder of them, chosen by the main process for all; None where there is none.

    Raises:
        UserError: none is whole.
    """
    state, chosen = PartialState(), [None, None]
    if state.is_main_process:
        try:
            found = latest_checkpoint(run_dir, say)
            chosen = [found, None]
        except UserError as error:
            chosen = [None, str(error)]
    checkpoint, problem = broadcast_object_list(chosen)
    if problem is not None:
        raise UserError(problem)
    return checkpoint


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


def _arguments(recipe: Recipe, task: Task, run_dir: Path, per_process: int) -> TrainingArguments:
    """The arguments of a run whose processes take `per_process` samples at a time."""
    samples = len(task.train_data) if hasattr(task.train_data, "__len__") else None
    batch = per_process * PartialState().num_processes
    enough = samples is not None and samples >= batch  # of fewer samples than a batch, dropping would leave none
    drop_last = recipe.arguments.get("dataloader_drop_last", enough)
    steps = steps_per_epoch(samples, batch, recipe.arguments.get("gradient_accumulation_steps", 1), drop_last)
    metric = task.metric if task.validation_data is not None else None
    arguments = training_arguments(recipe, run_dir, steps, metric, task.greater_is_better, task.notes)
    arguments.dataloader_drop_last, arguments.per_device_train_batch_size = drop_last, per_process
    arguments.label_names = list(task.label_names)
    return arguments


def build_trainer(
    recipe: Recipe, task: Task, run_dir: Path, checkpoint: Checkpoint | None, say: Callable[[str], None]
) -> CrateTrainer:
    """The Trainer of a run, with everything that looks on.

    Args:
        run_dir: where checkpoints go. checkpoint: the one that the run goes on from. say: receives lines for the user.

    Raises:
        UserError: values of the recipe that do not fit the data, the model or the number of processes.
    """
    arguments = _arguments(recipe, task, run_dir, _batch_size(recipe, checkpoint, say))
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
        ema=Ema(task.model, recipe.train.ema_decay) if recipe.train.ema_decay is not None else None,
        count_items=task.count_items,
        progress=checkpoint.progress if checkpoint else None,
    )
    _add_callbacks(trainer, recipe, task, say)
    return trainer


def _add_callbacks(trainer: CrateTrainer, recipe: Recipe, task: Task, say: Callable[[str], None]) -> None:
    trainer.remove_callback(PrinterCallback)
    crowding = NoticeCrowding(lambda: trainer.data_seconds, say)
    averaging = [trainer.ema] if trainer.ema else []
    for callback in (SetEpoch(), ProgressLine(say), crowding, *averaging, *task.callbacks()):
        trainer.add_callback(callback)
    if recipe.train.measure_every:
        samples = task.sample_inputs(_SAMPLES_TO_MEASURE)
        trainer.add_callback(MeasureLayers(lambda model: measure_layers(model, samples), recipe.train.measure_every))


__all__ = ["build_trainer", "checkpoint_to_continue"]
