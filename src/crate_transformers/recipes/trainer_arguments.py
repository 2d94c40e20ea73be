"""The arguments of transformers' TrainingArguments that a recipe may set, and their limits.

An argument that is not listed here is checked by its type alone, and by transformers when the arguments are made.
"""

import typing
from collections.abc import Iterable
from enum import Enum
from functools import cache
from typing import Any, TypeGuard

from .checks import RecipeError, check_choice, check_kind, parts_of_kind, type_text
from .limits import Limits

# arguments of transformers that a run decides itself or never reads -> advice for the user
_NOT_SET_HERE = {
    "warmup_ratio": "write train.warmup_steps: below 1 it is a share of the run",
    "data_seed": "train.seed decides the order of the samples",
    "train_sampling_strategy": "the order of the samples is a function of train.seed and the epoch",
    "length_column_name": "the order of the samples is a function of train.seed and the epoch",
    "label_names": "the task knows them",
    "parallelism_config": "accelerate's configuration file holds it",
    "fsdp_config": "train.fsdp shares the weights among the processes, a layer a unit",
    "do_train": "crate train trains",
    "do_eval": "train.eval_strategy says when",
    "do_predict": "crate predict does",
}
_HIDDEN = frozenset(
    {
        "output_dir",
        "resume_from_checkpoint",
        "logging_dir",
        "optim",
        "optim_args",
        "optim_target_modules",
        "local_rank",
        "fsdp",  # an option of this library
    }
)

# what a run takes where a recipe is silent, and transformers would take another value
RUN_DEFAULTS: dict[str, Any] = {
    "seed": 42,
    "lr_scheduler_type": "cosine",
    "logging_strategy": "steps",
    "logging_steps": 10,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "max_grad_norm": 1.0,
    "report_to": [],
    "remove_unused_columns": False,
    "dataloader_drop_last": True,
    "ddp_find_unused_parameters": False,  # every parameter has a gradient in every step
    "average_tokens_across_devices": False,
    "disable_tqdm": True,
    "log_level": "error",  # our own notes tell the user what is worth knowing
    "log_level_replica": "error",
    "logging_nan_inf_filter": False,
}

_AT_LEAST_0, _AT_LEAST_1 = Limits(0), Limits(1)
_LEVELS = Limits(choices=("debug", "info", "warning", "error", "critical", "passive", "detail"))
_LIMITS: dict[str, Limits] = {
    **dict.fromkeys(
        (
            "dataloader_num_workers", "warmup_steps", "learning_rate", "weight_decay", "max_grad_norm", "eval_delay",
            "adam_epsilon", "neftune_noise_alpha",
        ),
        _AT_LEAST_0,
    ),
    **dict.fromkeys(
        (
            "per_device_train_batch_size", "per_device_eval_batch_size", "save_total_limit",
            "gradient_accumulation_steps", "eval_steps", "save_steps", "logging_steps", "eval_accumulation_steps",
            "dataloader_prefetch_factor", "torch_empty_cache_steps", "ddp_timeout",
        ),
        _AT_LEAST_1,
    ),
    "seed": Limits(0, 2**32 - 1),  # the range of numpy's generator
    "num_train_epochs": Limits(positive=True),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), Limits(0, below=1)),
    **dict.fromkeys(("log_level", "log_level_replica"), _LEVELS),
}  # fmt: skip
_PLAIN_KINDS = ("int", "float", "bool", "str", "None", "dict", "list[str]")  # and dict[...]


def check_argument(name: str, value: object, limits: Limits | None = None) -> None:
    """Check a key and a value of transformers' TrainingArguments, as far as its type is plain or a set of names.

    Args:
        limits: of an argument that only some tasks read; None takes those that hold for all tasks.

    Raises:
        RecipeError: the argument is not set in a recipe, or the value does not fit.
    """
    key = f"train.{name}"
    if name in _NOT_SET_HERE:
        raise RecipeError(key, f"{key} is not set in a recipe: {_NOT_SET_HERE[name]}")
    annotation = argument_types()[name]
    choices = next((kind for kind in typing.get_args(annotation) if _is_enum(kind)), None)
    if choices is not None:
        check_choice(key, value, [member.value for member in choices])
    text = type_text(annotation)
    if all(part in _PLAIN_KINDS or part.startswith("dict[") for part in parts_of_kind(text)):
        check_kind(key, value, text)
    (limits or limits_of_argument(name)).check(key, value)
    if name == "max_steps" and isinstance(value, int) and value < 1 and value != -1:
        raise RecipeError(key, f"{key} must be at least 1, or -1 for whole epochs, got {value}")
    if name == "warmup_steps" and isinstance(value, int | float) and value > 1 and value != int(value):
        raise RecipeError(key, f"{key} must be a whole number of steps, or a share of the run below 1, got {value}")


@cache
def argument_types() -> dict[str, Any]:
    """Name -> type of every argument of TrainingArguments that is not hidden from recipes."""
    from transformers import TrainingArguments  # heavy: it pulls in the whole Trainer

    return {name: f.type for name, f in TrainingArguments.__dataclass_fields__.items() if name not in _HIDDEN}


def limits_of_argument(name: str) -> Limits:
    """The limits of an argument that hold for all tasks."""
    return _LIMITS.get(name, Limits())


def not_set_here() -> Iterable[str]:
    """The names of the arguments that are refused with advice."""
    return _NOT_SET_HERE


def _is_enum(kind: object) -> TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)


__all__ = ["RUN_DEFAULTS", "argument_types", "check_argument", "limits_of_argument", "not_set_here"]
