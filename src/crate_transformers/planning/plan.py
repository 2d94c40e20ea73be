"""The plan of a run: what it takes in operations, memory, disk, time, energy and money, before anything is spent.

Every figure carries its formula, so that it can be checked and doubted. `step.py` says what is counted and how.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from .._lazy import load_by_name
from ..errors import UserError
from ..recipes.schema import Recipe
from ..recipes.tasks import task_declaration
from ..recipes.trainer_arguments import RUN_DEFAULTS
from ..training.arguments import divided_batch, steps_of_run, steps_per_epoch
from ..training.sharding import layers_of
from ..training.tasks import Task
from ..training.tasks.stand_in import StandIn
from .devices import Device, device_of
from .facts import Facts, facts_of
from .step import StepCount, count_step

_ROOM = 0.9  # the share of a device's memory that tensors may take; the rest is its context and the allocator's slack


@dataclass(frozen=True)
class Terms:
    """What a plan assumes.

    Attributes:
        gpus: devices, one process each. utilisation: the share of a device's peak rate that a run reaches.
        price: of a device for an hour. energy_price: of a kilowatt-hour. None leaves a cost out.
        watts: of a device, where its maker's figure is not wanted.
    """

    gpus: int = 1
    utilisation: float = 0.3
    price: float | None = None
    energy_price: float | None = None
    watts: float | None = None

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise UserError(f"--gpus must be 1 or more, got {self.gpus}")
        if not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation is a share of the peak rate in (0, 1], got {self.utilisation:g}")
        for name, value in (("--price", self.price), ("--energy-price", self.energy_price), ("--watts", self.watts)):
            if value is not None and value < 0:
                raise UserError(f"{name} must be 0 or more, got {value:g}")


@dataclass(frozen=True)
class Figure:
    """One figure of a plan.

    Attributes:
        section, name: where it stands. value: None is unknown. unit: "B" bytes, "FLOP", "s", ... formula: how it was
            found.
    """

    section: str
    name: str
    value: float | int | None
    unit: str
    formula: str


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        recipe: its name. device: that it is planned for. figures: in the order in which they are shown.
        fits: whether a step fits into the memory of a device; fits_checkpointed: with gradient checkpointing.
        notes: lines on what was assumed and what would help.
    """

    recipe: str
    device: Device
    figures: tuple[Figure, ...]
    fits: bool
    fits_checkpointed: bool | None
    notes: tuple[str, ...]

    def value(self, name: str) -> float | int | None:
        """The value of a figure by its name."""
        return next(figure.value for figure in self.figures if figure.name == name)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        return asdict(self)


def plan(
    recipe: Recipe,
    device: str = "h100",
    terms: Terms | None = None,
    samples: int | None = None,
    classes: int | None = None,
    vocabulary: int | None = None,
) -> Plan:
    """Plan a run of a recipe. No data are read where their numbers are known, and nothing is written.

    Args:
        device: a name of `DEVICES`. terms: number of devices, utilisation, prices.
        samples, classes, vocabulary: of the data, where they are not at hand and not public.

    Raises:
        UserError: the recipe does not fit, an unknown device, or a fact that is needed and unknown.

    Example:
        >>> from crate_transformers.recipes import load_recipe
        >>> found = plan(load_recipe("imagenet1k-paper"), "a100", Terms(gpus=8))
        >>> found.value("parameters"), found.fits
        (6090856, True)
    """
    terms, on = terms or Terms(), device_of(device)
    facts = facts_of(recipe, samples, classes, vocabulary)
    task: type[Task] = load_by_name(task_declaration(recipe.task).runs)
    stand_in = task.stand_in(recipe, facts.data)
    step = _Step.of(recipe, stand_in, on, terms.gpus)
    steps, length = _steps(recipe, facts, step, terms)
    memory = _memory(recipe, step, terms.gpus)
    figures = (
        *_model(step),
        *memory,
        *_work(stand_in, step, steps, length, terms, on),
        *_disk(recipe, facts, step),
    )
    peaks = {figure.name: cast(int, figure.value) for figure in memory if figure.name.startswith("peak")}
    room = _ROOM * on.memory
    fits = peaks["peak"] <= room
    again = peaks.get("peak, checkpointed")
    fits_again = None if again is None else again <= room
    notes = [f"data: {facts.source}", *_advice(recipe, stand_in, step, on, peaks["peak"], fits, fits_again)]
    return Plan(recipe.name, on, figures, fits, fits_again, tuple(notes))


def batch_of(recipe: Recipe, gpus: int) -> tuple[int, int]:
    """(samples that a device takes at a time, batches of a step), as a run with so many processes would have."""
    if recipe.train.global_batch_size is not None:
        return divided_batch(recipe.train.global_batch_size, gpus, recipe.train.max_per_device_batch_size)
    per_device = int(recipe.arguments.get("per_device_train_batch_size", 8))
    return per_device, int(recipe.arguments.get("gradient_accumulation_steps", 1))


def optimizer_for(recipe: Recipe) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Makes the optimizer of a recipe, whose states are counted."""
    if recipe.train.optimizer == "lion":
        from lion_pytorch import Lion  # only for recipes that ask for it

        return Lion
    return lambda parameters: torch.optim.AdamW(parameters, foreach=False)


def dtype_of(recipe: Recipe) -> torch.dtype | None:
    """The narrow dtype of a recipe's mixed precision; None where it is float32 alone."""
    if recipe.arguments.get("bf16"):
        return torch.bfloat16
    return torch.float16 if recipe.arguments.get("fp16") else None


@dataclass(frozen=True)
class _Step:
    """A step as the recipe takes it, and with gradient checkpointing (None: no layer can).

    shares: processes among which weights, gradients and states are divided (FSDP2); 1: each has all. gathered: bytes of
    weights that are whole meanwhile.
    """

    plain: StepCount
    checkpointed: StepCount | None
    accumulation: int
    dtype: torch.dtype | None
    is_checkpointed: bool
    shares: int
    gathered: int

    @classmethod
    def of(cls, recipe: Recipe, stand_in: StandIn, device: Device, gpus: int) -> "_Step":
        if recipe.arguments.get("bf16") and not device.has_bfloat16:
            raise UserError(
                f"train.bf16: {device.name} has no bfloat16 products; set train.bf16=false and train.fp16=true"
            )
        rows, accumulation = batch_of(recipe, gpus)
        shares = gpus if recipe.train.fsdp else 1
        plain, again = (
            _count(recipe, stand_in, rows, accumulation > 1, again, device, shares) for again in (False, True)
        )
        assert plain is not None
        asked = bool(recipe.arguments.get("gradient_checkpointing"))
        if asked and again is None:
            raise UserError("train.gradient_checkpointing: no layer of the model computes its activations again")
        gathered = _gathered(stand_in.model) if shares > 1 else 0
        return cls(plain, again, accumulation, dtype_of(recipe), asked, shares, gathered)

    @property
    def taken(self) -> StepCount:
        """The step as the recipe asks for it."""
        return self.checkpointed if self.is_checkpointed and self.checkpointed else self.plain


def _gathered(model: nn.Module) -> int:
    """Bytes of the weights that FSDP2 has whole at once: all outside of the layers, and two layers, one ahead."""
    layers = sorted((_bytes_of(part) for part in layers_of(model)), reverse=True)
    return _bytes_of(model) - sum(layers) + sum(layers[:2])


def _bytes_of(part: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in part.parameters())


def _count(
    recipe: Recipe, stand_in: StandIn, rows: int, accumulates: bool, again: bool, device: Device, shares: int
) -> StepCount | None:
    if again and not any(hasattr(part, "gradient_checkpointing") for part in stand_in.model.modules()):
        return None
    return count_step(
        stand_in.model,
        stand_in.batch(rows),
        optimizer_for(recipe),
        dtype_of(recipe),
        accumulates,
        checkpointing=again,
        on_cpu=device.is_cpu,
        processes=shares,
    )


def _steps(recipe: Recipe, facts: Facts, step: _Step, terms: Terms) -> tuple[int, str]:
    """Optimizer steps of the whole run, and how they follow."""
    batch, times = step.plain.rows * terms.gpus, step.accumulation
    if recipe.train.global_batch_size is not None:  # whose steps are whole, or not at all
        batch, times = recipe.train.global_batch_size, 1
    asked = recipe.arguments.get("max_steps", -1)
    if asked > 0:
        return int(asked), "train.max_steps"
    samples = facts.data.known("samples", "--samples")
    drop_last = recipe.arguments.get("dataloader_drop_last", samples >= batch)
    each = steps_per_epoch(samples, batch, times, drop_last)
    epochs = recipe.arguments.get("num_train_epochs", 3.0)
    return steps_of_run(recipe, each, []), f"{epochs:g} epochs of {each:,} steps ({samples:,} samples)"


def _model(step: _Step) -> list[Figure]:
    return [Figure("model", "parameters", step.plain.parameters, "", "of the model that is trained, teacher included")]


def _memory(recipe: Recipe, step: _Step, gpus: int) -> list[Figure]:
    """The memory of one device, bytes."""
    plain, again, shares = step.plain, step.checkpointed, step.shares
    beside = plain.weights // shares if recipe.train.ema_decay is not None else 0
    copies = plain.gradients if gpus > 1 and shares == 1 else step.gathered
    part = f", 1 / {shares} (train.fsdp)" if shares > 1 else ""
    parts = [
        ("weights", plain.weights, "parameters and buffers, 4 bytes each"),
        ("gradients", plain.gradients, "of every parameter that is trained"),
        ("optimizer states", plain.optimizer, f"of {recipe.train.optimizer}"),
    ]
    rows = [Figure("memory a device", name, count // shares, "B", how + part) for name, count, how in parts]
    if beside:
        rows.append(Figure("memory a device", "average of the weights", beside, "B", "train.ema_decay: as the weights"))
    if shares > 1:
        formula = "FSDP2's: weights that are whole meanwhile, of two layers and of what is in none"
        rows.append(Figure("memory a device", "gathered weights", copies, "B", formula))
    elif copies:
        rows.append(Figure("memory a device", "buckets", copies, "B", "DDP's: the gradients once more"))
    rows.append(Figure("memory a device", "batch", plain.inputs, "B", f"{plain.rows} samples"))
    formula = "alive after the forward pass, beside the above"
    rows.append(Figure("memory a device", "activations", plain.activations, "B", formula))
    if again:
        rows.append(
            Figure("memory a device", "activations, checkpointed", again.activations, "B", f"{formula}; one a layer")
        )
    formula = "the most that is alive at once in a step, counted operation by operation"
    rows.append(Figure("memory a device", "peak", plain.peak + beside + copies, "B", formula))
    if again:
        rows.append(Figure("memory a device", "peak, checkpointed", again.peak + beside + copies, "B", formula))
    return rows


def _work(stand_in: StandIn, step: _Step, steps: int, length: str, terms: Terms, device: Device) -> list[Figure]:
    """Operations, time, energy and cost."""
    rows = step.taken.rows * step.accumulation * terms.gpus
    a_step = step.taken.flops * step.accumulation * terms.gpus
    rate = terms.gpus * device.rate(step.dtype) * terms.utilisation
    seconds = steps * a_step / rate
    unit = stand_in.unit
    kind = "float32" if step.dtype is None else str(step.dtype).removeprefix("torch.")
    peak = f"{device.rate(step.dtype) / 1e12:.4g} TFLOP/s in {kind}"
    found = [
        Figure("work", "samples a step", rows, "", f"{step.taken.rows} x {step.accumulation} batches x {terms.gpus}"),
        Figure("work", "steps", steps, "", length),
        Figure("work", "operations a step", a_step, "FLOP", "forward and backward, of products, x batches x devices"),
        Figure("work", "operations", steps * a_step, "FLOP", "a step x steps"),
        Figure("work", "time", seconds, "s", f"operations / ({terms.gpus} x {peak} x {terms.utilisation:g})"),
        Figure("work", f"{unit} a second", rows * stand_in.units * steps / seconds, "/s", "what the loader must give"),
    ]
    hours = seconds / 3600
    watts = terms.watts if terms.watts is not None else device.watts
    energy = None if watts is None else terms.gpus * watts * hours / 1000
    formula = "the power is unknown: --watts" if watts is None else "devices x rated power x time; the devices alone"
    found.append(Figure("work", "energy", energy, "kWh", formula))
    if terms.price is not None:
        found.append(Figure("work", "cost", terms.gpus * hours * terms.price, "", f"device-hours x {terms.price:g}"))
    if terms.energy_price is not None and energy is not None:
        found.append(Figure("work", "cost of energy", energy * terms.energy_price, "", f"x {terms.energy_price:g}"))
    return found


def _disk(recipe: Recipe, facts: Facts, step: _Step) -> list[Figure]:
    """Bytes on disk."""
    plain = step.plain
    average = plain.weights if recipe.train.ema_decay is not None else 0
    one = plain.weights + plain.optimizer + average
    arguments: Mapping[str, Any] = {**RUN_DEFAULTS, **recipe.arguments}
    kept = arguments.get("save_total_limit") or 0
    formula = f"weights + optimizer states{' + average' if average else ''}"
    found = [
        Figure("disk", "data", facts.size, "B", "the files" if facts.size else "unknown"),
        Figure("disk", "a checkpoint", one, "B", formula),
    ]
    if kept > 0 and arguments.get("save_strategy") != "no":
        found.append(Figure("disk", "checkpoints", one * (kept + 1), "B", f"x ({kept} kept + 1 being written)"))
    return found


def _advice(
    recipe: Recipe,
    stand_in: StandIn,
    step: _Step,
    device: Device,
    peak: int,
    fits: bool,
    fits_again: bool | None,
) -> list[str]:
    """Lines on whether a step fits, and on what would make it fit."""
    name, room = device.name, _ROOM * device.memory
    if fits or (step.is_checkpointed and fits_again):
        return [f"fits: at most {_ROOM:.0%} of the {device.memory / 2**30:.0f} GiB of {name} are for tensors"]
    notes = [f"does NOT fit: the peak is {peak / 2**30:.1f} GiB, {room / 2**30:.1f} GiB of {name} are for tensors"]
    if fits_again and not step.is_checkpointed:
        notes.append("train.gradient_checkpointing=true makes it fit")
    rows = step.plain.rows
    half = _count(recipe, stand_in, max(1, rows // 2), step.accumulation > 1, False, device, step.shares)
    if rows > 1 and half is not None:
        a_row = (step.plain.peak - half.peak) / (rows - half.rows)
        largest = math.floor(rows - (peak - room) / a_row)
        notes.append(
            f"the largest batch that fits is {largest} (train.per_device_train_batch_size)"
            if largest >= 1
            else "no batch fits: the weights and their states alone are too large"
        )
    return notes


__all__ = ["Figure", "Plan", "Terms", "batch_of", "dtype_of", "optimizer_for", "plan"]
