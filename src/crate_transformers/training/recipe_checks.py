"""What the values of a recipe may be: the kind of each, its range, and the tasks that read it.

Every refusal is a `RecipeError`, which knows its key, so that whoever read the recipe from a file can say where it is.
"""

import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from typing import Any

from ..errors import UserError

TASKS = (
    "image-classification",
    "masked-image-modeling",
    "self-distillation",
    "masked-language-modeling",
    "causal-language-modeling",
    "sequence-classification",
    "token-classification",
    "multiple-choice",
    "question-answering",
)
_IMAGE, _LANGUAGE, _HEADS = frozenset(TASKS[:3]), frozenset(TASKS[3:5]), frozenset(TASKS[5:])

# option -> the tasks that read it, where not all do
_READ_BY: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "data.root", "data.skip_unreadable", "data.center_crop", "data.flip", "data.rand_augment", "data.mean",
            "data.std",
        ),
        _IMAGE,
    ),
    **dict.fromkeys(("data.crop", "data.crop_scale", "data.random_erasing"), _IMAGE - {"self-distillation"}),
    **dict.fromkeys(
        (
            "data.global_crops", "data.local_crops", "data.global_crop_scale", "data.local_crop_scale",
            "data.local_crop_size", "data.color_jitter", "data.grayscale", "data.gaussian_blur", "data.solarize",
            "train.teacher_momentum", "train.teacher_temperature", "train.warmup_teacher_temperature",
            "train.warmup_teacher_temperature_epochs", "train.student_temperature", "train.weight_decay_end",
            "train.freeze_last_layer_epochs", "train.prototypes", "train.head_hidden_size",
            "train.head_bottleneck_size", "train.head_batch_norm", "train.self_distillation_loss", "train.rate_weight",
        ),
        frozenset({"self-distillation"}),
    ),
    **dict.fromkeys(
        ("data.tokenizer", "data.vocab_size", "data.context_length", "data.text_column"), _LANGUAGE | _HEADS
    ),
    **dict.fromkeys(("data.second_text_column", "data.label_column"), _HEADS),
    **dict.fromkeys(("data.streaming", "data.cache_dir"), _LANGUAGE),
    "data.mask_probability": frozenset({"masked-language-modeling"}),
    "train.sample_every": frozenset({"causal-language-modeling"}),
    **dict.fromkeys(
        ("train.mixup_alpha", "train.cutmix_alpha", "train.label_smoothing_factor"), frozenset({"image-classification"})
    ),
}  # fmt: skip
# refused with a reason of its own by the tasks on pictures that do not read it
_REFUSED_BY_TASK = ("data.crop", "data.random_erasing", "train.mixup_alpha", "train.cutmix_alpha")

# arguments of transformers that a run decides itself, or never reads -> what to do instead
_NOT_SET_HERE = {
    "warmup_ratio": "write train.warmup_steps: below 1 it is a share of the run",
    "data_seed": "train.seed decides the order of the samples",
    "train_sampling_strategy": "the order of the samples is a function of train.seed and the epoch",
    "length_column_name": "the order of the samples is a function of train.seed and the epoch",
    "label_names": "the task knows them",
    "parallelism_config": "accelerate's configuration file holds it",
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
    }
)

# [least, most] of numbers, or of each number of a list
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("data.random_erasing", "data.grayscale", "data.gaussian_blur", "data.solarize", "train.teacher_momentum"),
        (0, 1),
    ),
    "data.color_jitter": (0, 5),  # a tenth of it is a share of the colour circle, half of it at most
    "data.global_crops": (2, math.inf),
    "data.local_crops": (0, math.inf),
    "data.context_length": (2, math.inf),
    **dict.fromkeys(("data.local_crop_size", "data.vocab_size"), (1, math.inf)),
    **dict.fromkeys(
        (
            "train.warmup_epochs", "train.mixup_alpha", "train.cutmix_alpha", "train.measure_every",
            "train.sample_every", "train.weight_decay_end", "train.freeze_last_layer_epochs", "train.rate_weight",
            "train.warmup_teacher_temperature_epochs", "train.dataloader_num_workers", "train.warmup_steps",
            "train.learning_rate", "train.weight_decay", "train.max_grad_norm", "train.eval_delay",
            "train.adam_epsilon", "train.neftune_noise_alpha",
        ),
        (0, math.inf),
    ),
    **dict.fromkeys(
        (
            "train.per_device_train_batch_size", "train.per_device_eval_batch_size", "train.save_total_limit",
            "train.gradient_accumulation_steps", "train.eval_steps", "train.save_steps", "train.logging_steps",
            "train.eval_accumulation_steps", "train.dataloader_prefetch_factor", "train.torch_empty_cache_steps",
            "train.prototypes", "train.head_hidden_size", "train.head_bottleneck_size", "train.ddp_timeout",
        ),
        (1, math.inf),
    ),
    "train.label_smoothing_factor": (0, 1),
    "train.seed": (0, 2**32 - 1),  # what numpy's generator takes
}  # fmt: skip
_BELOW_ONE = (  # in [0, 1)
    "data.validation_fraction", "data.test_fraction", "train.optimizer_betas", "train.adam_beta1", "train.adam_beta2",
)  # fmt: skip
_POSITIVE = (
    "data.std", "train.teacher_temperature", "train.warmup_teacher_temperature", "train.student_temperature",
    "train.num_train_epochs",
)  # fmt: skip
_CHOICES = {
    "data.crop": ("none", "random_resized", "pad"),
    "train.optimizer": ("adamw", "lion"),
    "train.self_distillation_loss": ("dino", "coding_rate"),
    **dict.fromkeys(
        ("train.log_level", "train.log_level_replica"),
        ("debug", "info", "warning", "error", "critical", "passive", "detail"),
    ),
}
_PLAIN_KINDS = ("int", "float", "bool", "str", "None", "dict", "list[str]")  # and dict[...]
_PAIRS = ("data.rand_augment", "data.crop_scale", "data.global_crop_scale", "data.local_crop_scale")


class RecipeError(UserError):
    """A key of a recipe, or its value, does not fit.

    Attributes:
        key: "section.name", or "section".
    """

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


# -- keys -------------------------------------------------------------------------------------------------------------


def check_key(section: str, name: Any, known: Iterable[str]) -> None:
    """A key of a section ("": the recipe itself) must be one of the known ones."""
    known = list(known)
    if name not in known:
        key = f"{section}.{name}" if section else str(name)
        raise RecipeError(key, f"unknown key {key[:80]} in {section or 'the recipe'}{near(str(name)[:80], known)}")


def check_choice(key: str, value: Any, known: Iterable[str]) -> None:
    """A value must be one of the known ones."""
    known = list(known)
    if value not in known:
        raise RecipeError(
            key, f"{key} must be one of {', '.join(known)}, got {shown(value)}{near(str(value)[:80], known)}"
        )


def check_is_read(section: str, values: Mapping[str, Any], task: str) -> None:
    """An option that the task does not read is refused, for it would be ignored; one that is off asks for nothing."""
    for name, value in values.items():
        if not value:
            continue
        key = f"{section}.{name}"
        readers = _READ_BY.get(key, frozenset(TASKS))
        if task not in readers and not (key in _REFUSED_BY_TASK and task in _IMAGE):
            listed = ", ".join(other for other in TASKS if other in readers)
            raise RecipeError(key, f"{key} is of {listed}; the task is {task}: leave it out")


# -- values -----------------------------------------------------------------------------------------------------------


def check_kind(key: str, value: Any, annotation: str) -> None:
    """A value must be of the kind that its annotation ("int", "list[float] | None") names."""
    if not _fits(value, annotation):
        raise RecipeError(key, f"{key} must be {annotation}, got {shown(value)}")


def check_range(key: str, value: Any) -> None:
    """A number, or each number of a list, must be in the range of its key, where it has one; None always is."""
    if key in _CHOICES and value is not None:
        check_choice(key, value, _CHOICES[key])
    for number in value if isinstance(value, list) else [value]:
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        least, most = _RANGES.get(key, (-math.inf, math.inf))
        if number < least and most == math.inf:
            raise RecipeError(key, f"{key} must be at least {least}, got {shown(value)}")
        if not least <= number <= most:
            raise RecipeError(key, f"{key} must be in [{least}, {most}], got {shown(value)}")
        if key in _BELOW_ONE and not 0 <= number < 1:
            raise RecipeError(key, f"{key} must be in [0, 1), got {shown(value)}")
        if key in _POSITIVE and not number > 0:
            raise RecipeError(key, f"{key} must be positive, got {shown(value)}")
    if isinstance(value, list):
        _check_list(key, value)


def _check_list(key: str, value: list[Any]) -> None:
    if key in (*_PAIRS, "train.optimizer_betas") and len(value) != 2:
        raise RecipeError(key, f"{key} must be a list of 2 numbers, got {shown(value)}")
    if key.endswith("crop_scale") and not 0 < value[0] <= value[1] <= 1:
        raise RecipeError(
            key, f"{key} must be [smallest, largest] share of the area in (0, 1], the smallest first, got {value}"
        )
    if key == "data.rand_augment" and not (value[0] >= 0 and 0 <= value[1] <= 30):
        raise RecipeError(key, f"{key} must be [operations >= 0, magnitude from 0 to 30], got {value}")


def check_channels(data: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """`mean` and `std` hold one number, three, or one a channel; a checkpoint's channels are not known yet."""
    lengths = {1, 3, model.get("num_channels", 3)}
    for name in ("mean", "std"):
        value = data.get(name)
        if value is not None and (len(value) not in lengths) and (not value or "from" not in model):
            raise RecipeError(
                f"data.{name}",
                f"data.{name} must be a list of one number, or of one a channel ({model.get('num_channels', 3)}), got "
                f"{shown(value)}",
            )


def check_argument(name: str, value: Any) -> None:
    """A key and value of transformers' TrainingArguments; where its type is plain or a set of names, it must fit.

    Raises:
        RecipeError: with the nearest good key, or the good values.
    """
    key = f"train.{name}"
    if name in _NOT_SET_HERE:
        raise RecipeError(key, f"{key} is not set in a recipe: {_NOT_SET_HERE[name]}")
    annotation = argument_types()[name]
    choices = next((kind for kind in typing.get_args(annotation) if _is_enum(kind)), None)
    if choices is not None:
        check_choice(key, value, [member.value for member in choices])
    text = type_text(annotation)
    if all(part in _PLAIN_KINDS or part.startswith("dict[") for part in _parts(text)):
        check_kind(key, value, text)
    check_range(key, value)
    if name == "max_steps" and value < 1 and value != -1:
        raise RecipeError(key, f"{key} must be at least 1, or -1 for whole epochs, got {value}")
    if name == "warmup_steps" and value > 1 and value != int(value):
        raise RecipeError(key, f"{key} must be a whole number of steps, or a share of the run below 1, got {value}")


@cache
def argument_types() -> dict[str, Any]:
    """Name -> type of what a recipe may set of TrainingArguments."""
    from transformers import TrainingArguments  # heavy: it pulls in the whole Trainer

    return {name: f.type for name, f in TrainingArguments.__dataclass_fields__.items() if name not in _HIDDEN}


def not_set_here() -> Iterable[str]:
    """Names of arguments that are refused with what to do instead."""
    return _NOT_SET_HERE


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _parts(annotation: str) -> list[str]:
    return [part.strip() for part in annotation.split("|")]


def _fits(value: Any, annotation: str) -> bool:
    return any(_fits_part(value, part) for part in _parts(annotation))


def _fits_part(value: Any, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits_part(item, kind[5:-1]) for item in value)
    if kind.startswith("dict"):
        return isinstance(value, dict)
    if kind == "None" or isinstance(value, bool):
        return value is None or (kind == "bool" and isinstance(value, bool))
    if kind == "str":
        return isinstance(value, str)
    is_number = isinstance(value, int) or (kind == "float" and isinstance(value, float))
    return kind in ("int", "float") and is_number and is_finite(value)


def is_finite(value: int | float) -> bool:
    """Whether a number is finite, and an integer one that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


# -- words ------------------------------------------------------------------------------------------------------------


def type_text(annotation: Any) -> str:
    """A type as it is written: "int", "list[float] | None", "one of cls, mean"."""
    if typing.get_origin(annotation) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(annotation)))}"
    return annotation.__name__ if type(annotation) is type else str(annotation)


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, of bounded length."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def near(word: str, known: Iterable[str]) -> str:
    """The end of a message: the known word that is nearest, where one is near."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


__all__ = [
    "TASKS",
    "RecipeError",
    "argument_types",
    "check_argument",
    "check_channels",
    "check_choice",
    "check_is_read",
    "check_key",
    "check_kind",
    "check_range",
    "is_finite",
    "near",
    "not_set_here",
    "shown",
    "type_text",
]
