"""The options of the `data` and `train` sections that every task reads, and the way to declare an option.

An option is a field of a dataclass. Its name is the key in a recipe, its annotation is the kind of its value, and its
default is the value where a recipe has none. `option` adds limits. A task that reads more options declares them in a
dataclass that derives from one of these two; see recipes/tasks/.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar, cast

from .checks import RecipeError
from .limits import Limits

_NO_LIMITS = Limits()

Default = TypeVar("Default")
FitsModel = Callable[[str, Any, Mapping[str, Any]], None]  # (key, value, the `model` section); raises RecipeError


def option(
    default: Default, limits: Limits = _NO_LIMITS, after: str | None = None, fits_model: FitsModel | None = None
) -> Default:
    """Declare a field of a dataclass of options. As for `dataclasses.field`, its type is that of the default.

    Args:
        default: the value where a recipe has none; a list is copied for every recipe.
        limits: of the value.
        after: the option that it follows in a written recipe; None puts it behind the options that come before it.
        fits_model: a check of the value against the `model` section.
    """
    metadata = {"limits": limits, "after": after, "fits_model": fits_model}
    if isinstance(default, list):
        return cast(Default, field(default_factory=lambda: list(default), metadata=metadata))
    return field(default=default, metadata=metadata)


def limits_of(declared: Field) -> Limits:
    """The limits of an option."""
    return declared.metadata.get("limits", _NO_LIMITS)


def check_fits_model(declared: Field, key: str, value: object, model: Mapping[str, Any]) -> None:
    """Check that the value of an option fits the `model` section.

    Raises:
        RecipeError: it does not fit.
    """
    fits_model: FitsModel | None = declared.metadata.get("fits_model")
    if fits_model is not None:
        fits_model(key, value, model)


def default_of(declared: Field) -> object:
    """The value of an option where a recipe has none."""
    return declared.default if declared.default_factory is MISSING else declared.default_factory()


def in_written_order(kinds: Iterable[type]) -> dict[str, Field]:
    """Name -> field of every option of some dataclasses, in the order in which recipes are written."""
    found: dict[str, Field] = {}
    names: list[str] = []
    for kind in kinds:
        for declared in fields(kind):
            if declared.name in found:
                continue
            after = declared.metadata.get("after")
            names.insert(len(names) if after is None else names.index(after) + 1, declared.name)
            found[declared.name] = declared
    return {name: found[name] for name in names}


def _check_decay(key: str, value: float) -> None:
    if not 0 < value < 1:
        raise RecipeError(key, f"{key} must be in (0, 1), got {value}")


@dataclass
class DataOptions:
    """The options of the `data` section that every task reads.

    Attributes:
        source: where the data come from, as --data sets it; the commands' help lists its forms.
        validation_fraction: of the data, held out to choose the best model where the source has no such part.
        test_fraction: of the data, held out to measure the end where the source has no such part.
    """

    source: str = "digits"
    validation_fraction: float = option(0.1, Limits(0, below=1))
    test_fraction: float = option(0.2, Limits(0, below=1))


@dataclass
class TrainOptions:
    """The options of the `train` section that every task reads, beside transformers' TrainingArguments.

    Attributes:
        global_batch_size: samples of an optimizer step, of all processes together. The batch of a process and the
            accumulation follow from how many processes there are, so the same recipe runs, and resumes, on any number
            that divides it; not beside per_device_train_batch_size and gradient_accumulation_steps.
        max_per_device_batch_size: of global_batch_size, the most samples that a process takes at a time; None takes
            all its part of a step.
        optimizer: "adamw", or "lion" of lion-pytorch.
        optimizer_betas: the two momenta of the optimizer; None is its own default.
        weight_decay_on: "matrices", all parameters but biases, norms and scales; or "kernels", the weights of linear
            maps and convolutions alone, as CRATE-alpha was trained: no dictionaries, positions and class tokens.
        max_grad_norm_of: of max_grad_norm, what has this norm at most: the gradient of all parameters together ("all"),
            or that of each parameter by itself ("each", as the published DINO and SimDINO clip).
        warmup_epochs: epochs in which the learning rate rises to its height.
        rate_by_epoch: whether the learning rate changes once an epoch, on a cosine that counts from the first epoch,
            also under the warm-up, as CBT, ToST and timm's runs publish it (`training.schedules` has the formula).
            Else it changes at every step, and the cosine begins after the warm-up.
        warmup_learning_rate: of rate_by_epoch, the rate of the first epoch of the warm-up; None is a share of
            1 / warmup_epochs of the rate.
        cooldown_epochs: of rate_by_epoch, epochs at the end of the run at the lowest rate.
        ema_decay: decay per step of the average of the weights that is kept; None keeps the weights themselves.
        lora_rank: rank of the adapters (LoRA) around the subspaces and output projections of a model of `model.from`,
            which are trained instead of all weights, with the head; 0 trains all weights. The run saves the merged
            model, and the adapters alone in `adapter/`.
        lora_alpha: the adapters are scaled by lora_alpha / lora_rank; None is twice the rank.
        lora_dropout: of tokens on their way into an adapter; not with lora_dictionaries.
        lora_dictionaries: whether the dictionaries, and the maps of MLPs, have adapters too.
        measure_every: steps between two measures of the layers; 0 measures none.
        fsdp: whether several processes share the weights, their gradients, the optimizer's moments and the average
            (FSDP2); else each has them all (DDP). It may change when a run is resumed.
        checkpoint_form: "gathered", one process writes whole weights; "sharded", every process writes what it holds, to
            a disk that all share, and `crate consolidate` makes whole weights of it; None is sharded with `fsdp`, else
            gathered. It may change when a run is resumed.
        checkpoint_in_background: whether training goes on while a checkpoint is written; it waits for the copy alone.
    """

    global_batch_size: int | None = option(None, Limits(1))
    max_per_device_batch_size: int | None = option(None, Limits(1))
    optimizer: str = option("adamw", Limits(choices=("adamw", "lion")))
    optimizer_betas: list[float] | None = option(None, Limits(0, below=1, length=2))
    weight_decay_on: str = option("matrices", Limits(choices=("matrices", "kernels")))
    max_grad_norm_of: str = option("all", Limits(choices=("all", "each")))
    warmup_epochs: float | None = option(None, Limits(0))
    rate_by_epoch: bool = False
    warmup_learning_rate: float | None = option(None, Limits(0))
    cooldown_epochs: float = option(0.0, Limits(0))
    ema_decay: float | None = option(None, Limits(further=_check_decay))
    lora_rank: int = option(0, Limits(0))
    lora_alpha: float | None = option(None, Limits(positive=True))
    lora_dropout: float = option(0.0, Limits(0, below=1))
    lora_dictionaries: bool = False
    measure_every: int = option(0, Limits(0))
    fsdp: bool = False
    checkpoint_form: str | None = option(None, Limits(choices=("gathered", "sharded")))
    checkpoint_in_background: bool = True


__all__ = ["DataOptions", "TrainOptions", "check_fits_model", "default_of", "in_written_order", "limits_of", "option"]
