"""From the `train` section of a recipe to transformers' TrainingArguments and an optimizer.

One rule decides the warm-up. `warmup_epochs`, which a recipe writes for a run of its own length, counts epochs of the
loader's batches; a warm-up that would last as long as the run or longer is shortened to a tenth of the run, because the
learning rate would never get high. `warmup_steps` (a number of steps, or below 1 a share of the run) goes before it,
and is refused where it is longer than the run. A note tells the user of either.
"""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from transformers import SchedulerType, TrainingArguments, get_scheduler

from ..errors import MissingPackageError, UserError
from ..recipes.schema import Recipe
from ..recipes.tasks import task_declaration
from ..recipes.trainer_arguments import RUN_DEFAULTS
from ..upstream import INTEGRATION_TO_CALLBACK
from .schedules import EpochSchedule

# what a run takes where a recipe is silent; two of them depend on the machine
_DEFAULTS: dict[str, Any] = {
    **RUN_DEFAULTS,
    "use_cpu": not torch.accelerator.is_available(),  # else processes on CPUs do not find each other
    "dataloader_pin_memory": torch.cuda.is_available(),
}
_NO_WARM_UP = ("constant", "reduce_lr_on_plateau", "greedy")  # schedules that read no warm-up
_SHARE_OF_WARM_UP = 0.1  # the warm-up's share of a run that the recipe's warm-up does not fit into
# tool of train.report_to -> packages of which it needs one; a tool that is not here needs the package of its name
_PACKAGES: dict[str, tuple[str, ...]] = {
    "azure_ml": ("azureml",),
    "flyte": ("flytekit",),
    "kubeflow": (),
    "tensorboard": ("tensorboard", "tensorboardX"),
}


def steps_per_epoch(samples: int | None, batch: int, accumulation: int, drop_last: bool) -> int | None:
    """Optimizer steps of an epoch, as the Trainer counts them.

    Args:
        samples: number of training samples; None for a stream, which has no length.
        batch: samples that all processes take together.
        accumulation: batches of one step.
        drop_last: whether the last batch is left out where it is not full.

    Returns:
        at least 1; None for a stream.

    Raises:
        UserError: `drop_last` leaves no batch.

    Example:
        >>> steps_per_epoch(100, 32, 1, drop_last=True), steps_per_epoch(100, 32, 1, drop_last=False)
        (3, 4)
    """
    if samples is None:
        return None
    batches = samples // batch if drop_last else math.ceil(samples / batch)
    if batches == 0:
        raise UserError(
            f"train.dataloader_drop_last leaves no batch: {samples} training samples, {batch} a batch; lower "
            "train.per_device_train_batch_size, or leave train.dataloader_drop_last out"
        )
    return math.ceil(batches / accumulation)


def divided_batch(together: int, processes: int, most: int | None) -> tuple[int, int]:
    """How the samples of a step are divided: (samples that a process takes at a time, times in a step).

    Args:
        together: samples of a step. most: that a process takes at a time; None takes any number.

    Raises:
        UserError: they cannot be divided equally, or only into batches of half of `most` and fewer where more would
            fit; the message names numbers near that can be.

    Example:
        >>> divided_batch(256, 2, 48), divided_batch(256, 4, None)
        ((32, 4), (64, 1))
    """

    def parts_of(number: int) -> tuple[int, int] | None:
        """The division of another number of samples; None where there is no good one."""
        own, rest = divmod(number, processes)
        if rest or not own:
            return None
        largest = next(size for size in range(min(most or own, own), 0, -1) if own % size == 0)
        return (largest, own // largest) if 2 * largest > min(most or own, own) else None

    found = parts_of(together)
    if found is not None:
        return found
    lower = next((number for number in range(together - 1, 0, -1) if parts_of(number)), None)
    upper = next(number for number in range(together + 1, 4 * together + 4 * processes) if parts_of(number))
    near = f"{upper}" if lower is None else f"{lower} or {upper}"
    bound = f" of at most {most} samples (train.max_per_device_batch_size)" if most is not None else ""
    raise UserError(
        f"train.global_batch_size = {together} cannot be divided among {processes} processes in equal batches{bound}: "
        f"{near} can be"
    )


def training_arguments(
    recipe: Recipe,
    output_dir: Path,
    steps_per_epoch: int | None,
    metric: str | None,
    greater_is_better: bool,
    notes: list[str] | None = None,
) -> TrainingArguments:
    """The arguments of a run.

    Args:
        steps_per_epoch: optimizer steps of an epoch, which turn epochs into steps; None for a stream.
        metric: the metric of the validation part that picks the best model; None where there is no validation part.
        greater_is_better: whether the best model has the highest metric.
        notes: receives a line for every value that differs from what the recipe says.

    Raises:
        UserError: values that TrainingArguments refuses, or that do not fit the length of the run.
    """
    notes = notes if notes is not None else []
    given = dict(recipe.arguments)
    values = {**_DEFAULTS, **given}
    _check_reporters(values["report_to"])
    steps = steps_of_run(recipe, steps_per_epoch, notes)
    values["warmup_steps"] = _warm_up(recipe, values["lr_scheduler_type"], steps, steps_per_epoch, notes)
    if steps_per_epoch is not None:
        notes.extend(task_declaration(recipe.task).too_long(recipe.train, steps, steps_per_epoch))
    if metric is None:
        values.update(eval_strategy="no", load_best_model_at_end=False, eval_on_start=False)
        _note_what_needs_validation(given, notes)
    elif values.setdefault("metric_for_best_model", metric).removeprefix("eval_") == metric.removeprefix("eval_"):
        values.setdefault("greater_is_better", greater_is_better)  # of another metric transformers goes by its name
    if "eval_steps" in given and "eval_strategy" not in given and metric is not None:
        values["eval_strategy"] = "steps"
    if "save_steps" in given and "save_strategy" not in given:
        values["save_strategy"] = "steps"
    asked_to_save = "save_strategy" in given or "save_steps" in given
    if values["eval_strategy"] != values["save_strategy"] and "load_best_model_at_end" not in given:
        if asked_to_save or values["eval_strategy"] == "no":  # the best model need not be among the saved ones
            values["load_best_model_at_end"] = False
        elif metric is not None:
            values["save_strategy"] = values["eval_strategy"]
        if values["save_strategy"] == "steps" and "eval_steps" in given:
            values.setdefault("save_steps", given["eval_steps"])
    if values.get("dataloader_persistent_workers") and not values.get("dataloader_num_workers"):
        values["dataloader_persistent_workers"] = False
        notes.append("train.dataloader_persistent_workers is not used: train.dataloader_num_workers is 0")
    try:
        arguments = TrainingArguments(output_dir=str(output_dir), **values)
    except (TypeError, ValueError, ImportError, OSError, NotImplementedError) as error:
        raise UserError(f"the train section of the recipe does not fit: {error}") from error
    _check_schedule(arguments, steps)
    return arguments


def steps_of_run(recipe: Recipe, steps_per_epoch: int | None, notes: list[str]) -> int:
    """The number of optimizer steps of the whole run, as the Trainer counts them; notes: receives a line on a clash."""
    steps, epochs = recipe.arguments.get("max_steps", -1), recipe.arguments.get("num_train_epochs")
    if steps > 0:
        if epochs is not None:
            length = f" ({steps / steps_per_epoch:.3g} epochs)" if steps_per_epoch else ""
            notes.append(
                f"the run is train.max_steps = {steps} steps long{length}, and not train.num_train_epochs = {epochs:g}"
            )
        return steps
    if steps_per_epoch is None:
        raise UserError(
            "a stream has no epochs: set train.max_steps, the length of the run, instead of train.num_train_epochs"
        )
    return math.ceil((3.0 if epochs is None else epochs) * steps_per_epoch)  # 3 is the default of transformers


def _warm_up(recipe: Recipe, schedule: str, steps: int, steps_per_epoch: int | None, notes: list[str]) -> int:
    """The number of steps of the warm-up; the top of this file has the rule."""
    epochs, asked = recipe.train.warmup_epochs, recipe.arguments.get("warmup_steps")
    if (epochs or asked) and schedule in _NO_WARM_UP:
        notes.append(f"train.lr_scheduler_type = {schedule} has no warm-up: that of the recipe is not used")
        return 0
    if asked is not None:
        if epochs is not None:
            notes.append(f"train.warmup_steps = {asked:g} is the warm-up, and not train.warmup_epochs = {epochs:g}")
        warm_up = int(asked) if asked >= 1 else math.ceil(asked * steps)
        if warm_up > steps:
            raise UserError(
                f"train.warmup_steps = {asked:g} is longer than the run of {steps} steps, so the rate would never be "
                "reached: lower it, or write a share of the run, e.g. train.warmup_steps=0.1"
            )
    elif epochs:
        warm_up = _warm_up_of_epochs(epochs, steps, steps_per_epoch, notes)
    else:
        return 0
    if 2 * warm_up > steps:
        notes.append(f"the warm-up takes {warm_up} of the {steps} steps of the run: the rate is low for most of it")
    return warm_up


def _warm_up_of_epochs(epochs: float, steps: int, steps_per_epoch: int | None, notes: list[str]) -> int:
    if steps_per_epoch is None:
        raise UserError(
            f"a stream has no epochs, and train.warmup_epochs is {epochs:g}: set train.warmup_steps, and "
            "train.warmup_epochs=null"
        )
    warm_up = round(epochs * steps_per_epoch)
    if warm_up < steps:
        return warm_up
    shortened = int(_SHARE_OF_WARM_UP * steps)
    notes.append(
        f"train.warmup_epochs = {epochs:g} is {warm_up} steps and the run is {steps}: the warm-up is shortened to a "
        f"tenth of the run, {shortened} steps (train.warmup_steps sets another)"
    )
    return shortened


def _note_what_needs_validation(given: Mapping[str, object], notes: list[str]) -> None:
    """Note which arguments go unused because there is no validation part."""
    names = ("eval_strategy", "eval_steps", "eval_on_start", "load_best_model_at_end", "metric_for_best_model")
    asked = [f"train.{name}" for name in names if given.get(name) not in (None, False, "no")]
    if asked:
        notes.append(f"there is no validation part: {', '.join(asked)} not used, and the last model is kept")


def _check_reporters(names: str | list[str] | None) -> None:
    """Refuse, before anything runs, a tool that transformers does not know or that is not installed."""
    for name in names if isinstance(names, list) else [names]:
        if name in (None, "none", "all"):
            continue
        if name not in list(INTEGRATION_TO_CALLBACK):
            raise UserError(
                f"train.report_to must be none, all, or of {', '.join(INTEGRATION_TO_CALLBACK)}, got {name!r}"
            )
        packages = _PACKAGES.get(name, (name,))
        if packages and not any(find_spec(package) for package in packages):
            raise MissingPackageError(
                f"train.report_to = {name} needs {' or '.join(packages)}, which is not installed: pip install "
                f"{packages[0]}, or set train.report_to=none"
            )


def _check_schedule(arguments: TrainingArguments, steps: int) -> None:
    """Make the schedule once, for an optimizer of one number, and compute its first and its last rate."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=arguments.learning_rate)
    kind = SchedulerType(arguments.lr_scheduler_type)
    keywords = cast(dict[str, Any] | None, arguments.lr_scheduler_kwargs)
    try:
        schedule = get_scheduler(kind, optimizer, arguments.get_warmup_steps(steps), steps, keywords)
        for rate in getattr(schedule, "lr_lambdas", ()):
            rate(steps)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"train.lr_scheduler_kwargs ({keywords}) do not fit train.lr_scheduler_type = {kind.value}: {error}"
        ) from error


def epoch_schedule(
    recipe: Recipe, arguments: TrainingArguments, steps_per_epoch: int | None, notes: list[str]
) -> EpochSchedule | None:
    """The schedule of a run whose learning rate changes once an epoch; None for another run.

    Args:
        arguments: of the run, whose warm-up fits it. steps_per_epoch: optimizer steps of an epoch; None for a stream.
        notes: receives a line where the cool-down is shortened, as a warm-up is, and where no epoch is left to warm up.

    Raises:
        UserError: a stream has no epochs, or another rate is above the run's.
    """
    train, rate = recipe.train, arguments.learning_rate
    if not train.rate_by_epoch:
        return None
    if steps_per_epoch is None:
        raise UserError("a stream has no epochs, and train.rate_by_epoch is true: leave it out")
    lowest = (cast(dict[str, Any] | None, arguments.lr_scheduler_kwargs) or {}).get("min_lr", 0.0)
    start = train.warmup_learning_rate
    for name, value in (("lr_scheduler_kwargs.min_lr", lowest), ("warmup_learning_rate", start or 0.0)):
        if not isinstance(value, int | float) or not 0 <= value <= rate:
            raise UserError(f"train.{name} must be a rate from 0 to train.learning_rate ({rate:g}), got {value!r}")
    epochs = steps_of_run(recipe, steps_per_epoch, []) / steps_per_epoch
    warm_up, cool_down = int(arguments.warmup_steps) / steps_per_epoch, train.cooldown_epochs
    if warm_up + cool_down >= epochs and cool_down:
        cool_down = _SHARE_OF_WARM_UP * epochs
        notes.append(
            f"train.cooldown_epochs = {train.cooldown_epochs:g} does not fit into the run of {epochs:.3g} epochs: it "
            "is shortened to a tenth of the run"
        )
    if 0 < warm_up < 1:
        notes.append(f"train.rate_by_epoch: the warm-up of {warm_up:.2g} epochs is less than one, so there is none")
        warm_up = 0.0
    return EpochSchedule(
        steps_per_epoch, epochs - cool_down, warm_up, None if start is None else start / rate, lowest / rate
    )


def optimizer_of(recipe: Recipe, arguments: TrainingArguments) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """The class of the optimizer and its keywords. The Trainer sets the weight decay of each parameter group."""
    betas = recipe.train.optimizer_betas
    keywords: dict[str, Any] = {"lr": arguments.learning_rate}
    if recipe.train.optimizer == "lion":
        from lion_pytorch import Lion  # only for recipes that ask for it

        return Lion, {**keywords, **({"betas": tuple(betas)} if betas else {})}
    adam_betas = tuple(betas) if betas else (arguments.adam_beta1, arguments.adam_beta2)
    return torch.optim.AdamW, {**keywords, "betas": adam_betas, "eps": arguments.adam_epsilon}


__all__ = [
    "divided_batch",
    "epoch_schedule",
    "optimizer_of",
    "steps_of_run",
    "steps_per_epoch",
    "training_arguments",
]
