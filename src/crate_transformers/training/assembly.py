"""The parts of a run: the checkpoint that it continues from, the size of its batches, and the Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor
from transformers import TrainingArguments

from ..analysis import measure_layers
from ..errors import UserError
from ..recipes.schema import Recipe
from ..upstream import PrinterCallback
from .adapters import adapt, check_base, count_trained, digest_of_frozen, plain_model
from .arguments import divided_batch, epoch_schedule, optimizer_of, steps_per_epoch, training_arguments
from .average import Ema
from .callbacks import MeasureLayers, NoticeCrowding, ProgressLine, SetEpoch
from .checkpoints import Checkpoint, data_size, latest_checkpoint
from .finished import describe_finished
from .keyed_loader import SampleOrder
from .schedules import EpochSchedule
from .shared_batch_norm import share_statistics
from .tasks import Task
from .trainer import CrateTrainer

_SAMPLES_TO_MEASURE = 64


def checkpoint_to_continue(run_dir: Path, on_note: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint of a run, which the main process chooses for all; None where there is none.

    Args:
        run_dir: the folder of checkpoints. on_note: receives a line for each checkpoint that is passed over.

    Raises:
        UserError: there are checkpoints, and none is whole.
    """
    state, chosen = PartialState(), [None, None]
    if state.is_main_process:
        try:
            found = latest_checkpoint(run_dir, on_note)
            chosen = [found, None]
        except UserError as error:
            chosen = [None, str(error)]
    checkpoint, problem = broadcast_object_list(chosen)
    if problem is not None:
        raise UserError(problem)
    return checkpoint


def _batch_size(recipe: Recipe, checkpoint: Checkpoint | None, on_note: Callable[[str], None]) -> tuple[int, int]:
    """(samples that a process takes at a time, how many times it does so in a step).

    They follow from the recipe's global batch, where it has one. Else they are the recipe's; in a run that another
    number of processes began, all processes together take as many samples as before, so that every step sees the same
    ones.

    Raises:
        UserError: the samples of a step cannot be divided among the processes.
    """
    state, before = PartialState(), checkpoint.progress if checkpoint else None
    if recipe.train.global_batch_size is not None:
        parts = divided_batch(
            recipe.train.global_batch_size, state.num_processes, recipe.train.max_per_device_batch_size
        )
        if state.is_main_process:
            on_note(
                f"a step takes {recipe.train.global_batch_size} samples: {state.num_processes} processes, {parts[0]} "
                f"at a time, {parts[1]} times"
            )
        return parts
    asked = int(recipe.arguments.get("per_device_train_batch_size", 8))
    accumulation = int(recipe.arguments.get("gradient_accumulation_steps", 1))
    if before is None or state.num_processes == before.processes:
        return (before.batch_size if before else asked), accumulation
    together = before.processes * before.batch_size
    if together % state.num_processes:
        raise UserError(
            f"the run was started with {before.processes} processes that take {before.batch_size} samples each: "
            f"{together} cannot be divided among {state.num_processes}; continue it with a number that divides it"
        )
    if state.is_main_process:
        on_note(
            f"the run was started with {before.processes} processes, now there are {state.num_processes}: each takes "
            f"{together // state.num_processes} samples, so that a step sees the same {together} (dropout, if there is "
            "any, draws other numbers)"
        )
    return together // state.num_processes, accumulation


def _arguments(
    recipe: Recipe, task: Task, run_dir: Path, per_process: int, accumulation: int
) -> tuple[TrainingArguments, EpochSchedule | None]:
    """Arguments, and schedule by epochs if any, of a run whose processes take `per_process` samples at a time."""
    samples = len(task.train_data) if hasattr(task.train_data, "__len__") else None
    processes = PartialState().num_processes
    batch, times = per_process * processes, accumulation
    if recipe.train.global_batch_size is not None:  # whose steps are whole, or not at all, however they are divided
        batch, times = recipe.train.global_batch_size, 1
    enough = samples is not None and samples >= batch  # of fewer samples than a batch, dropping would leave none
    drop_last = recipe.arguments.get("dataloader_drop_last", enough)
    steps = steps_per_epoch(samples, batch, times, drop_last)
    metric = task.metric if task.validation_data is not None else None
    arguments = training_arguments(recipe, run_dir, steps, metric, task.greater_is_better, task.notes)
    arguments.dataloader_drop_last, arguments.per_device_train_batch_size = drop_last, per_process
    arguments.gradient_accumulation_steps = accumulation
    if "ddp_find_unused_parameters" not in recipe.arguments:
        # else DDP divides the gradients anew after its first step, also that of a resumed run, and a sum of three
        # numbers depends on its order
        arguments.ddp_find_unused_parameters = processes > 2
    arguments.label_names = list(task.label_names)
    return arguments, epoch_schedule(recipe, arguments, steps, task.notes)


def _check_data(task: Task, checkpoint: Checkpoint | None) -> None:
    """Refuse to continue a run on more or fewer training samples, whose order would be another one."""
    before, now = checkpoint.progress.data_size if checkpoint else 0, data_size(task.train_data)
    if before and now != before:
        raise UserError(
            f"the run was started on {before:,} training samples, now there are {now:,}: put the data back as they "
            "were, or pass --overwrite"
        )


def _put_adapters(recipe: Recipe, task: Task, checkpoint: Checkpoint | None) -> None:
    """Give the model of a task the adapters that its recipe asks for."""
    if not recipe.train.lora_rank:
        return
    task.model = adapt(task.model, recipe)
    task.trained_parameters = trained = count_trained(task.model)
    total = sum(parameter.numel() for parameter in task.model.parameters())
    task.notes.append(f"adapters of rank {recipe.train.lora_rank}: {trained:,} of {total:,} parameters are trained")
    if checkpoint is not None:
        check_base(task.model, checkpoint.progress.base)


def build_trainer(
    recipe: Recipe, task: Task, run_dir: Path, checkpoint: Checkpoint | None, on_note: Callable[[str], None]
) -> CrateTrainer:
    """Make the Trainer of a run, with all its callbacks.

    Args:
        run_dir: the folder of checkpoints. checkpoint: the one that the run continues from.
        on_note: receives lines for the user.

    Raises:
        UserError: values of the recipe that do not fit the data, the model or the number of processes.
    """
    arguments, schedule = _arguments(recipe, task, run_dir, *_batch_size(recipe, checkpoint, on_note))
    _check_data(task, checkpoint)
    if arguments.world_size > 1:
        share_statistics(task.model)
    _put_adapters(recipe, task, checkpoint)
    trainer = CrateTrainer(
        model=task.model,
        args=arguments,
        data_collator=task.collator,
        evaluation_collator=task.evaluation_collator,
        train_dataset=task.train_data,
        eval_dataset=task.validation_data,
        compute_metrics=task.compute_metrics,
        # transformers' annotation leaves out that outputs and labels may be tuples
        preprocess_logits_for_metrics=cast(Callable[[Tensor, Tensor], Tensor], task.reduce_outputs),
        optimizer_cls_and_kwargs=optimizer_of(recipe, arguments),
        order=SampleOrder(task.keyed, task.repetitions, task.ends, recipe.train.global_batch_size is not None),
        ema=Ema(recipe.train.ema_decay) if recipe.train.ema_decay is not None else None,
        count_items=task.count_items,
        progress=checkpoint.progress if checkpoint else None,
        decays=recipe.train.weight_decay_on,
        clips=recipe.train.max_grad_norm_of,
        schedule=schedule,
    )
    trainer.base = digest_of_frozen(task.model) if recipe.train.lora_rank else ""
    _choose_form(trainer, recipe, task)
    _add_callbacks(trainer, recipe, task, on_note)
    return trainer


def _choose_form(trainer: CrateTrainer, recipe: Recipe, task: Task) -> None:
    """Share the weights among the processes where the recipe asks for it, and give the checkpoints their form."""
    train, writer = recipe.train, trainer.checkpointer
    writer.sharded = (train.checkpoint_form or ("sharded" if train.fsdp else "gathered")) == "sharded"
    writer.in_background = train.checkpoint_in_background
    if train.fsdp and writer.processes > 1:
        trainer.share_weights()
        task.whole_copy = trainer.whole_model
    elif train.fsdp:
        task.notes.append("train.fsdp: one process has all the weights, so nothing is shared")
    if not train.lora_rank:
        described = trainer.whole.model if trainer.whole else task.model
        writer.beside = lambda folder: describe_finished(task, described, folder)


def _add_callbacks(trainer: CrateTrainer, recipe: Recipe, task: Task, on_note: Callable[[str], None]) -> None:
    trainer.remove_callback(PrinterCallback)
    crowding = NoticeCrowding(lambda: trainer.data_seconds, on_note)
    averaging = [trainer.ema] if trainer.ema else []
    for callback in (SetEpoch(), ProgressLine(on_note), crowding, *averaging, *task.callbacks()):
        trainer.add_callback(callback)
    if recipe.train.measure_every:
        samples = task.sample_inputs(_SAMPLES_TO_MEASURE)
        trainer.add_callback(
            MeasureLayers(
                lambda model: measure_layers(plain_model(model), samples),
                recipe.train.measure_every,
                task.whole_model,
            )
        )


__all__ = ["build_trainer", "checkpoint_to_continue"]
