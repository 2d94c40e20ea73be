"""From a YAML file and the settings of a command line to a recipe with checked keys and values."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError
from .checks import RecipeError, check_choice, check_key, check_kind, is_finite, near, shown, type_text
from .families import FAMILIES
from .options import DataOptions, TrainOptions, check_fits_model, default_of, limits_of
from .reading import read_yaml, read_yaml_file
from .schema import NOT_FIELDS, Recipe, copied
from .shipped import shipped_recipes, shipped_text
from .tasks import TASKS, argument_limits, known_options, readers_of, task_declaration
from .trainer_arguments import argument_types, check_argument, not_set_here

_SECTIONS = ("model", "data", "train")
_BATCH_OF_A_PROCESS = ("per_device_train_batch_size", "gradient_accumulation_steps")
_DEFAULT_FAMILY = "crate_vision"  # where a recipe names none

Options = TypeVar("Options", bound=DataOptions | TrainOptions)


def load_recipe(name_or_path: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a YAML file by path, and apply settings ("model.size": "tiny", ...).

    A setting of `train.global_batch_size` takes the place of what the file says of the batch of a process. Where a
    setting asks for another family, as a baseline, fields of the file that only its own family has are left
    out (`pool`, `ista_lambda`, ...).

    Raises:
        UserError: a recipe, section, key or value is unknown. The message names the nearest known one, and the line
            and column of what stands in the file.
    """
    content, places = _read(name_or_path)
    settings = settings or {}
    if "model.family" in settings and isinstance(content.get("model"), dict):
        content["model"] = _shared_with(settings["model.family"], content["model"])
    if settings.get("train.global_batch_size") is not None and isinstance(content.get("train"), dict):
        of_file = content["train"].items()
        content["train"] = {name: value for name, value in of_file if name not in _BATCH_OF_A_PROCESS}
    for key, value in settings.items():
        section, dot, name = key.partition(".")
        if section not in _SECTIONS or not dot:
            raise UserError(f"unknown setting {key!r}: expected model.NAME, data.NAME or train.NAME{_near_key(key)}")
        content[section] = {**_section(content, section), name: value}
        places.pop(key, None)
    try:
        return recipe_of(content, Path(name_or_path).stem)
    except RecipeError as error:
        if error.key in places:
            raise UserError(f"{places[error.key]}: {error}") from error
        raise


def _shared_with(family: object, model: Mapping[str, Any]) -> dict[str, Any]:
    """The model section without the fields that its own family has and the other one has not."""
    names = (model.get("family", _DEFAULT_FAMILY), family)
    known = [FAMILIES[name] for name in names if isinstance(name, str) and name in FAMILIES]
    if len(known) < 2:
        return dict(model)  # an unknown family is refused later, with the known names
    own, other = known
    foreign = set(own.config_fields) - set(other.config_fields)
    return {key: value for key, value in model.items() if key not in foreign}


def recipe_of(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """Make a recipe of nested dictionaries, and check it.

    Args:
        name: the name of the recipe where `content` has none.

    Raises:
        RecipeError: a key or a value does not fit, or the task does not read it.
        UserError: options do not go together in this task.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"a recipe holds the sections model, data and train, got {shown(content)}")
    content = copied(content)
    for section in content:
        check_key("", section, ("name", "task", *_SECTIONS))
    name, task = _folder_name(content.get("name", name)), content.get("task", "image-classification")
    check_choice("task", task, TASKS)
    model, data, train = (_section(content, section) for section in _SECTIONS)
    _check_model(model, task)
    data_options, off = _data_options(data, model, task)
    train_options, arguments, off_train = _train_options(train, task)
    _check_adapters(train_options, model, task)
    task_declaration(task).check(data_options, train_options)
    unread = {f"data.{key}": value for key, value in off.items()}
    unread.update({f"train.{key}": value for key, value in off_train.items()})
    return Recipe(name, task, model, data_options, train_options, arguments, unread)


def _data_options(data: Mapping[str, Any], model: Mapping[str, Any], task: str) -> tuple[DataOptions, dict[str, Any]]:
    """The options of the data section, and those of other tasks that are off."""
    options, others = options_of(task_declaration(task).data, data, "data")
    known = known_options("data")
    for key, value in data.items():
        check_fits_model(known[key], f"data.{key}", value, model)
    _check_is_read("data", others, task)
    return options, others


def _train_options(train: Mapping[str, Any], task: str) -> tuple[TrainOptions, dict[str, Any], dict[str, Any]]:
    """The options of the train section, the arguments of transformers, and the options of other tasks that are off."""
    ours = known_options("train")
    own = {key: value for key, value in train.items() if key in ours}
    arguments = {key: value for key, value in train.items() if key not in ours}
    options, others = options_of(task_declaration(task).train, own, "train")
    limits = argument_limits()
    for key, value in arguments.items():
        check_key("train", key, (*argument_types(), *not_set_here(), *ours))
        check_argument(key, value, limits.get(key))
    _check_is_read("train", {**others, **arguments}, task)
    _check_optimizer(options, arguments)
    _check_rate(options, arguments)
    _check_batch(options, arguments)
    _check_sharing(options, arguments)
    return options, arguments, others


def options_of(kind: type[Options], values: Mapping[str, Any], section: str) -> tuple[Options, dict[str, Any]]:
    """Make the options of a section, and check every value.

    Args:
        kind: the dataclass of options that the task declares for the section.

    Returns:
        the options; and the values of options of other tasks, where they differ from the defaults.

    Raises:
        RecipeError: no task declares a key, or a value does not fit.
    """
    known = known_options(section)
    for key, value in values.items():
        check_key(section, key, known)
        check_kind(f"{section}.{key}", value, type_text(known[key].type))
        limits_of(known[key]).check(f"{section}.{key}", value)
    own = {declared.name for declared in fields(kind)}
    others = {key: value for key, value in values.items() if key not in own and value != default_of(known[key])}
    return kind(**{key: value for key, value in values.items() if key in own}), others


def _check_is_read(section: str, values: Mapping[str, Any], task: str) -> None:
    """Refuse options that the task does not read, because they would be ignored; one that is off may stay."""
    for name, value in values.items():
        key, readers = f"{section}.{name}", readers_of(section, name)
        if not value or task in readers:
            continue
        reason = task_declaration(task).refuses.get(key)
        if reason is not None:
            raise UserError(reason)
        raise RecipeError(key, f"{key} is of {', '.join(readers)}; the task is {task}: leave it out")


def _section(content: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The keys and values of a section; none where it is empty or missing.

    Raises:
        RecipeError: the section is a list or a value.
    """
    values = content.get(section)
    if values is not None and not isinstance(values, Mapping):
        raise RecipeError(
            section, f"the section {section!r} of a recipe must hold keys and values, got {shown(values)}"
        )
    return dict(values or {})


def _folder_name(name: object) -> str:
    """The name of a recipe, which names the folder of its runs."""
    text = str(name) if isinstance(name, str | int | float) and not isinstance(name, bool) else ""
    if not text or text == ".." or Path(text).name != text:
        raise RecipeError("name", f"name must be a text that can name a folder, got {shown(name)}")
    return text


def _check_model(model: dict[str, Any], task: str) -> None:
    """Check the model section: its family must do the task, and its fields must fit the configuration."""
    check_choice("model.family", model.setdefault("family", _DEFAULT_FAMILY), FAMILIES)
    family = FAMILIES[model["family"]]
    if task not in family.tasks:
        alternatives = [name for name, other in FAMILIES.items() if task in other.tasks]
        raise RecipeError(
            "model.family",
            f"model.family {model['family']} does not do {task}: expected one of {', '.join(alternatives)}",
        )
    names: dict[str, str] = {}
    for key, value in model.items():
        check_key("model", key, (*NOT_FIELDS, *family.config_fields))
        other = names.setdefault(family.own_name(key), key)
        if other != key:
            raise RecipeError(f"model.{key}", f"model.{key} and model.{other} are one field: leave one out")
        if key in ("size", "from"):
            check_kind(f"model.{key}", value, "str | None")
        elif key == "redraw":
            check_kind("model.redraw", value, "list[str]")
            if value and not model.get("from"):
                raise RecipeError("model.redraw", "model.redraw is of model.from: a new model is drawn anew as a whole")
        elif key != "family":
            _check_numbers(f"model.{key}", value)
            problem = family.problem_of_field(key, value)
            if problem is not None:
                raise RecipeError(f"model.{key}", f"model.{key} {problem}, got {shown(value)}")


def _check_numbers(key: str, value: object) -> None:
    """Check that all numbers are finite, also those inside lists and mappings."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(key, item)
    if isinstance(value, int | float) and not is_finite(value):
        raise RecipeError(key, f"{key} must be a finite number, got {shown(value)}")


def _check_optimizer(options: TrainOptions, arguments: Mapping[str, Any]) -> None:
    """Refuse the arguments of Adam, and of clipping, where they would not be read."""
    if options.max_grad_norm_of != "all" and arguments.get("max_grad_norm") == 0:
        key = "train.max_grad_norm_of"
        raise RecipeError(key, f"{key} is of clipped gradients, and train.max_grad_norm is 0: leave one out")
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if name not in arguments:
            continue
        if options.optimizer != "adamw":
            raise RecipeError(f"train.{name}", f"train.{name} is of adamw, train.optimizer is {options.optimizer}")
        if name != "adam_epsilon" and options.optimizer_betas is not None:
            raise RecipeError(f"train.{name}", f"train.{name} and train.optimizer_betas exclude each other")


def _check_batch(options: TrainOptions, arguments: Mapping[str, Any]) -> None:
    """Refuse two ways of saying how many samples a step takes."""
    key = "train.global_batch_size"
    if options.global_batch_size is None:
        if options.max_per_device_batch_size is not None:
            name = "train.max_per_device_batch_size"
            raise RecipeError(name, f"{name} is of {key}: set it, or leave it out")
        return
    for name in _BATCH_OF_A_PROCESS:
        if name in arguments:
            raise RecipeError(key, f"{key} decides train.{name}: leave one of them out")


def _check_sharing(options: TrainOptions, arguments: Mapping[str, Any]) -> None:
    """Refuse what does not go with weights, or checkpoints, that processes share."""
    key = "train.fsdp" if options.fsdp else "train.checkpoint_form"
    if not options.fsdp and options.checkpoint_form != "sharded":
        return
    if options.lora_rank:
        raise RecipeError(
            key, f"{key} does not go with train.lora_rank: adapters are small, and their checkpoints are gathered"
        )
    for name in ("fp16", "torch_compile", "deepspeed"):
        if options.fsdp and arguments.get(name):
            advice = "take train.bf16" if name == "fp16" else "leave one out"
            raise RecipeError(f"train.{name}", f"train.{name} does not go with train.fsdp: {advice}")


def _check_adapters(options: TrainOptions, model: Mapping[str, Any], task: str) -> None:
    """Refuse adapters where there is nothing that they could adapt, and their options where there are none."""
    key = "train.lora_rank"
    if not options.lora_rank:
        for name in ("lora_alpha", "lora_dropout", "lora_dictionaries"):
            if getattr(options, name):
                raise RecipeError(f"train.{name}", f"train.{name} is of adapters: set {key}, or leave it out")
        return
    if task == "self-distillation":
        raise RecipeError(key, f"{key} does not go with self-distillation, which trains a whole student: leave it out")
    if FAMILIES[model["family"]].is_baseline:
        raise RecipeError(
            key, f"{key} is of the library's own models, and {model['family']} is a baseline: leave it out"
        )
    if not model.get("from"):
        raise RecipeError(key, f"{key} adapts a trained model, and here all weights are new: set model.from")
    if model.get("redraw"):
        raise RecipeError("model.redraw", f"model.redraw draws anew what {key} would leave as it is: leave one out")
    if options.lora_dropout and options.lora_dictionaries:
        raise RecipeError(
            "train.lora_dropout",
            "PEFT has no dropout for dictionaries: leave train.lora_dropout or lora_dictionaries out",
        )


def _check_rate(options: TrainOptions, arguments: Mapping[str, Any]) -> None:
    """Refuse options and arguments of the learning rate that would not be read."""
    if not options.rate_by_epoch:
        for name in ("warmup_learning_rate", "cooldown_epochs"):
            if getattr(options, name):
                raise RecipeError(
                    f"train.{name}", f"train.{name} is of train.rate_by_epoch = true: set it, or leave out"
                )
        return
    schedule, keywords = arguments.get("lr_scheduler_type", "cosine"), arguments.get("lr_scheduler_kwargs") or {}
    if schedule not in ("cosine", "cosine_with_min_lr"):
        key = "train.lr_scheduler_type"
        raise RecipeError(
            key, f"with train.rate_by_epoch, {key} is cosine or cosine_with_min_lr, got {shown(schedule)}"
        )
    if sorted(keywords) != (["min_lr"] if schedule == "cosine_with_min_lr" else []):
        key = "train.lr_scheduler_kwargs"
        raise RecipeError(
            key,
            f"with train.rate_by_epoch, {key} holds min_lr for cosine_with_min_lr and nothing for cosine, got "
            f"{shown(keywords)} for {schedule}",
        )
    if "warmup_steps" in arguments:
        key = "train.warmup_steps"
        raise RecipeError(key, f"{key} counts steps, and train.rate_by_epoch epochs: write train.warmup_epochs")
    if options.warmup_learning_rate is not None and not options.warmup_epochs:
        key = "train.warmup_learning_rate"
        raise RecipeError(key, f"{key} needs a warm-up: set train.warmup_epochs")


def _read(name_or_path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The content of a recipe, and the place of every key."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise UserError(f"no recipe file at {path}")
        content, places = read_yaml_file(path)
    else:
        known = shipped_recipes()
        if name_or_path not in known:
            raise UserError(
                f"unknown recipe {shown(name_or_path)}{near(name_or_path[:80], known)}; `crate recipes` lists them all"
            )
        content, places = read_yaml(shipped_text(name_or_path), name_or_path)
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"holds {shown(content)}"
        raise UserError(f"{name_or_path} {what}, which is no recipe: expected the sections model, data and train")
    return content, places


def _near_key(key: str) -> str:
    """The end of a message: the whole name of the key that was probably meant, of any task and family."""
    name = key.rpartition(".")[2]
    choices = [f"{section}.{option}" for section in ("data", "train") for option in known_options(section)]
    choices += [f"train.{argument}" for argument in argument_types()]
    choices += [f"model.{f}" for family in FAMILIES.values() for f in family.config_fields]
    exact = next((choice for choice in choices if choice.partition(".")[2] == name), None)
    return f"; did you mean {exact!r}?" if exact else near(key[:80], choices)


__all__ = ["load_recipe", "options_of", "recipe_of"]
