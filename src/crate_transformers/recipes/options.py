"""The options of the `data` and `train` sections that every task reads, and how an option is declared.

An option is a field of a dataclass: its name is the key, its annotation the kind of its value, its default what it is
where a recipe is silent. `option` adds limits. A task that reads more options declares them in a dataclass that derives
from one of these two; see recipes/tasks/.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from .checks import RecipeError
from .limits import Limits

_NO_LIMITS = Limits()


FitsModel = Callable[[str, Any, Mapping[str, Any]], None]


def option(
    default: Any, limits: Limits = _NO_LIMITS, after: str | None = None, fits_model: FitsModel | None = None
) -> Any:
    """A field of a dataclass of options.

    Args:
        default: a list is copied for every recipe.
        limits: of its value.
        after: the option that it follows in a written recipe; None puts it behind those that are known before it.
        fits_model: called with key, value and the `model` section; raises RecipeError where they do not fit.
    """
    metadata = {"limits": limits, "after": after, "fits_model": fits_model}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def limits_of(declared: Field) -> Limits:
    """The limits of an option."""
    return declared.metadata.get("limits", _NO_LIMITS)


def check_fits_model(declared: Field, key: str, value: Any, model: Mapping[str, Any]) -> None:
    """The value of an option must fit the `model` section.

    Raises:
        RecipeError: it does not.
    """
    fits_model: FitsModel | None = declared.metadata.get("fits_model")
    if fits_model is not None:
        fits_model(key, value, model)


def default_of(declared: Field) -> Any:
    """What an option is where a recipe is silent."""
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
    """What every task reads of the `data` section.

    `source` is what --data sets; see data/sources.py and data/text.py for its forms.
    """

    source: str = "digits"
    validation_fraction: float = option(0.1, Limits(0, below=1))
    test_fraction: float = option(0.2, Limits(0, below=1))


@dataclass
class TrainOptions:
    """What every task reads of the `train` section beyond the names of transformers' TrainingArguments."""

    optimizer: str = option("adamw", Limits(choices=("adamw", "lion")))
    optimizer_betas: list[float] | None = option(None, Limits(0, below=1, length=2))
    warmup_epochs: float | None = option(None, Limits(0))
    ema_decay: float | None = option(None, Limits(further=_check_decay))
    measure_every: int = option(0, Limits(0))


__all__ = ["DataOptions", "TrainOptions", "check_fits_model", "default_of", "in_written_order", "limits_of", "option"]
