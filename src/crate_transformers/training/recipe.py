"""Recipes: a YAML file of three sections, checked key by key before anything runs.

model: what to train    data: what on    train: how (transformers' TrainingArguments names, and a few of ours)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from .families import FAMILIES, Family
from .recipe_checks import (
    TASKS,
    RecipeError,
    argument_types,
    check_argument,
    check_channels,
    check_choice,
    check_is_read,
    check_key,
    check_kind,
    check_range,
    is_finite,
    near,
    not_set_here,
    shown,
    type_text,
)
from .recipe_text import is_number_text, read_yaml, read_yaml_file

_SECTIONS = ("model", "data", "train")
_TEXT_TAG, _NUMBER_TAG = "tag:yaml.org,2002:str", "tag:yaml.org,2002:float"
_DEFAULT_FAMILY = "crate_vision"  # where a recipe names none


@dataclass
class DataOptions:
    """The `data` section. `source` is what --data sets; see data/sources.py and data/text.py for its forms."""

    source: str = "digits"
    root: str | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    skip_unreadable: bool = False
    # images
    crop: str = "none"
    crop_scale: list[float] = field(default_factory=lambda: [0.08, 1.0])
    center_crop: bool = False
    flip: bool = False
    rand_augment: list[int] | None = None
    random_erasing: float = 0.0
    mean: list[float] | None = None
    std: list[float] | None = None
    # self-distillation: crops a picture is seen through
    global_crops: int = 2
    local_crops: int = 6
    global_crop_scale: list[float] = field(default_factory=lambda: [0.4, 1.0])
    local_crop_scale: list[float] = field(default_factory=lambda: [0.05, 0.4])
    local_crop_size: int | None = None
    color_jitter: float = 0.0
    grayscale: float = 0.0
    gaussian_blur: float = 0.0
    solarize: float = 0.0
    # text
    tokenizer: str | None = None
    vocab_size: int = 4096
    context_length: int | None = None
    mask_probability: float = 0.15
    streaming: bool = False
    text_column: str | None = None
    second_text_column: str | None = None
    label_column: str | None = None
    cache_dir: str | None = None


@dataclass
class TrainOptions:
    """What the `train` section knows beyond the names of transformers' TrainingArguments."""

    optimizer: str = "adamw"
    optimizer_betas: list[float] | None = None
    warmup_epochs: float | None = None
    ema_decay: float | None = None
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    measure_every: int = 0
    sample_every: int = 0
    # self-distillation
    teacher_momentum: float = 0.996
    teacher_temperature: float = 0.04
    warmup_teacher_temperature: float = 0.04
    warmup_teacher_temperature_epochs: float = 0.0
    student_temperature: float = 0.1
    weight_decay_end: float | None = None
    freeze_last_layer_epochs: float = 1.0
    prototypes: int = 4096
    head_hidden_size: int = 2048
    head_bottleneck_size: int = 256
    head_batch_norm: bool = False
    self_distillation_loss: str = "dino"
    rate_weight: float = 1.0


@dataclass
class Recipe:
    """A whole recipe. `model` holds family, size, from and any field of the family's configuration."""

    name: str
    task: str
    model: dict[str, Any]
    data: DataOptions
    train: TrainOptions
    arguments: dict[str, Any]  # of TrainingArguments

    @property
    def family(self) -> Family:
        return FAMILIES[self.model["family"]]

    @property
    def model_fields(self) -> dict[str, Any]:
        """The configuration fields of the `model` section."""
        return {name: value for name, value in self.model.items() if name not in ("family", "size", "from")}

    @property
    def seed(self) -> int:
        return int(self.arguments.get("seed", 42))

    def to_dict(self) -> dict[str, Any]:
        """As written in YAML; reading it again gives the same recipe."""
        return _copied(
            {
                "name": self.name,
                "task": self.task,
                "model": self.model,
                "data": {"source": self.data.source, **_changed(vars(self.data), self.data)},
                "train": {
                    **self.arguments,
                    "optimizer": self.train.optimizer,
                    **_changed(vars(self.train), self.train),
                },
            }
        )

    def to_yaml(self) -> str:
        """The text of a file that `load_recipe` reads as this recipe."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around every text that we would read as something else (1e-4: yaml itself reads it as text)."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        tag = super().resolve(kind, value, implicit)
        is_number = kind is yaml.ScalarNode and implicit[0] and tag == _TEXT_TAG and is_number_text(value)
        return _NUMBER_TAG if is_number else tag


def load_recipe(name_or_path: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a YAML file by path, and apply settings ("model.size": "tiny", ...).

    Where a setting asks for another family, as a baseline, it leaves out what the file says of its own family alone
    (`pool`, `ista_lambda`, ...).

    Raises:
        UserError: an unknown recipe, section, key or value, with the nearest good one; what stands in the file is
            named with its line and column.
    """
    content, places = _read(name_or_path)
    settings = settings or {}
    if "model.family" in settings and isinstance(content.get("model"), dict):
        content["model"] = _shared_with(settings["model.family"], content["model"])
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


def _shared_with(family: Any, model: Mapping[str, Any]) -> dict[str, Any]:
    """The model section without what its own family has and the other one has not."""
    own = model.get("family", _DEFAULT_FAMILY)
    if not all(name in list(FAMILIES) for name in (family, own)):
        return dict(model)  # refused later, with the names that there are
    foreign = set(FAMILIES[own].config_fields) - set(FAMILIES[family].config_fields)
    return {key: value for key, value in model.items() if key not in foreign}


def recipe_of(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """Check a recipe given as nested dictionaries.

    Raises:
        RecipeError: a key or a value that does not fit, or that the task does not read.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"a recipe holds the sections model, data and train, got {shown(content)}")
    content = _copied(content)
    for section in content:
        check_key("", section, ("name", "task", *_SECTIONS))
    name, task = _folder_name(content.get("name", name)), content.get("task", "image-classification")
    check_choice("task", task, TASKS)
    model, data, train = (_section(content, section) for section in _SECTIONS)
    _check_model(model, task)
    data_options = checked_options(DataOptions, data, "data")
    check_channels(data, model)
    check_is_read("data", _changed(data, data_options), task)
    ours = {f.name for f in fields(TrainOptions)}
    train_options = checked_options(TrainOptions, {k: v for k, v in train.items() if k in ours}, "train")
    if train_options.ema_decay is not None and not 0 < train_options.ema_decay < 1:
        raise RecipeError("train.ema_decay", f"train.ema_decay must be in (0, 1), got {train_options.ema_decay}")
    arguments = {key: value for key, value in train.items() if key not in ours}
    for key, value in arguments.items():
        check_key("train", key, (*argument_types(), *not_set_here(), *ours))
        check_argument(key, value)
    check_is_read("train", {**_changed(train, train_options), **arguments}, task)
    _check_optimizer(train_options, arguments)
    return Recipe(name, task, model, data_options, train_options, arguments)


def _copied(value: Any) -> Any:
    """A copy in which nothing is shared, with lists for tuples: as it would be read from YAML."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _section(content: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section of a recipe; one that is empty or missing holds nothing.

    Raises:
        RecipeError: a section that is a list or a value.
    """
    values = content.get(section)
    if values is not None and not isinstance(values, Mapping):
        raise RecipeError(
            section, f"the section {section!r} of a recipe must hold keys and values, got {shown(values)}"
        )
    return dict(values or {})


def _folder_name(name: Any) -> str:
    """The name of a recipe, which names the folder of its runs."""
    text = str(name) if isinstance(name, str | int | float) and not isinstance(name, bool) else ""
    if not text or text == ".." or Path(text).name != text:
        raise RecipeError("name", f"name must be a text that can name a folder, got {shown(name)}")
    return text


def _check_model(model: dict[str, Any], task: str) -> None:
    """The model section: a family that does the task, and fields of the kinds that its configuration wants."""
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
        check_key("model", key, ("family", "size", "from", *family.config_fields))
        other = names.setdefault(family.own_name(key), key)
        if other != key:
            raise RecipeError(f"model.{key}", f"model.{key} and model.{other} are one field: leave one out")
        if key in ("size", "from"):
            check_kind(f"model.{key}", value, "str | None")
        elif key != "family":
            _check_numbers(f"model.{key}", value)
            problem = family.problem_of_field(key, value)
            if problem is not None:
                raise RecipeError(f"model.{key}", f"model.{key} {problem}, got {shown(value)}")


def _check_numbers(key: str, value: Any) -> None:
    """Numbers, also those inside lists and mappings, must be finite."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(key, item)
    if isinstance(value, int | float) and not is_finite(value):
        raise RecipeError(key, f"{key} must be a finite number, got {shown(value)}")


def _changed(given: Mapping[str, Any], options: Any) -> dict[str, Any]:
    """Those of the given options that differ from what they are by themselves."""
    usual = vars(type(options)())
    return {name: value for name, value in given.items() if name in usual and value != usual[name]}


def _check_optimizer(options: TrainOptions, arguments: Mapping[str, Any]) -> None:
    """Names of Adam's numbers are refused where they would not be read."""
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        if name not in arguments:
            continue
        if options.optimizer != "adamw":
            raise RecipeError(f"train.{name}", f"train.{name} is of adamw, train.optimizer is {options.optimizer}")
        if name != "adam_epsilon" and options.optimizer_betas is not None:
            raise RecipeError(f"train.{name}", f"train.{name} and train.optimizer_betas exclude each other")


def shipped_recipes() -> dict[str, str]:
    """Name -> the comment that heads the file, of every recipe in the package."""
    folder = resources.files(__package__) / "recipes"
    found = {}
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".yaml"):
            lines = file.read_text(encoding="utf-8").splitlines()
            header = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
            found[file.name.removesuffix(".yaml")] = "\n".join(header)
    return found


def _read(name_or_path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What a recipe holds, and the place of every key."""
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
        text = (resources.files(__package__) / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        content, places = read_yaml(text, name_or_path)
    if not isinstance(content, dict):
        what = "is empty" if content is None else f"holds {shown(content)}"
        raise UserError(f"{name_or_path} {what}, which is no recipe: expected the sections model, data and train")
    return content, places


def checked_options(kind: type, values: Mapping[str, Any], section: str) -> Any:
    """Options of a section; a key or a value that does not fit is a RecipeError that names it."""
    names = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        check_key(section, key, names)
        check_kind(f"{section}.{key}", value, type_text(names[key].type))
        check_range(f"{section}.{key}", value)
    return kind(**values)


def _near_key(key: str) -> str:
    name = key.rpartition(".")[2]
    choices = [f"data.{f.name}" for f in fields(DataOptions)] + [f"train.{f.name}" for f in fields(TrainOptions)]
    choices += [f"train.{argument}" for argument in argument_types()]
    choices += [f"model.{f}" for family in FAMILIES.values() for f in family.config_fields]
    exact = next((choice for choice in choices if choice.partition(".")[2] == name), None)
    return f"; did you mean {exact!r}?" if exact else near(key[:80], choices)


__all__ = [
    "TASKS",
    "DataOptions",
    "Recipe",
    "TrainOptions",
    "checked_options",
    "load_recipe",
    "recipe_of",
    "shipped_recipes",
]
