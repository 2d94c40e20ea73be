"""Recipes: a YAML file of three sections, checked key by key before anything runs.

model: what to train    data: what on    train: how (transformers' TrainingArguments names, and a few of ours)
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from .families import FAMILIES, Family

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
        defaults_data, defaults_train = DataOptions(), TrainOptions()
        return {
            "name": self.name,
            "task": self.task,
            "model": deepcopy(self.model),
            "data": {
                f.name: getattr(self.data, f.name)
                for f in fields(self.data)
                if f.name == "source" or getattr(self.data, f.name) != getattr(defaults_data, f.name)
            },
            "train": {
                **deepcopy(self.arguments),
                **{
                    f.name: getattr(self.train, f.name)
                    for f in fields(self.train)
                    if f.name == "optimizer" or getattr(self.train, f.name) != getattr(defaults_train, f.name)
                },
            },
        }


def load_recipe(name_or_path: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a YAML file by path, and apply settings ("model.size": "tiny", ...).

    Where a setting asks for another family, as a baseline, it leaves out what the file says of its own family alone
    (`pool`, `ista_lambda`, ...).

    Raises:
        ValueError: an unknown recipe, section, key or value, with the nearest good one.
    """
    content = _read(name_or_path)
    settings = settings or {}
    if "model.family" in settings and isinstance(content.get("model"), dict):
        content["model"] = _shared_with(settings["model.family"], content["model"])
    for key, value in settings.items():
        section, dot, name = key.partition(".")
        if section not in ("model", "data", "train") or not dot:
            raise UserError(f"unknown setting {key!r}: expected model.NAME, data.NAME or train.NAME{_near_key(key)}")
        if not isinstance(content.get(section) or {}, dict):
            raise UserError(f"the section {section!r} of a recipe must hold keys and values")
        content[section] = {**(content.get(section) or {}), name: value}
    return recipe_of(content, Path(name_or_path).stem)


def _shared_with(family: Any, model: Mapping[str, Any]) -> dict[str, Any]:
    """The model section without what its own family has and the other one has not."""
    own = model.get("family", _DEFAULT_FAMILY)
    if not all(name in list(FAMILIES) for name in (family, own)):
        return dict(model)  # refused later, with the names that there are
    foreign = set(FAMILIES[own].config_fields) - set(FAMILIES[family].config_fields)
    return {key: value for key, value in model.items() if key not in foreign}


def recipe_of(content: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """Check a recipe given as nested dictionaries."""
    for section in content:
        _check_key(section, ("name", "task", "model", "data", "train"), "the recipe")
    for section in ("model", "data", "train"):
        if not isinstance(content.get(section) or {}, dict):
            raise UserError(f"the section {section!r} of a recipe must hold keys and values")
    model, data, train = (dict(content.get(section) or {}) for section in ("model", "data", "train"))
    task = content.get("task", "image-classification")
    _check_value("task", task, TASKS)
    _check_value("model.family", model.setdefault("family", _DEFAULT_FAMILY), FAMILIES)
    family = FAMILIES[model["family"]]
    if task not in family.tasks:
        alternatives = [name for name, other in FAMILIES.items() if task in other.tasks]
        raise UserError(f"model.family {model['family']} does not do {task}: expected one of {', '.join(alternatives)}")
    for key in model:
        _check_key(key, ("family", "size", "from", *family.config_fields), "model")
    data_options = checked_options(DataOptions, data, "data")
    ours = {f.name for f in fields(TrainOptions)}
    train_options = checked_options(TrainOptions, {k: v for k, v in train.items() if k in ours}, "train")
    arguments = {key: value for key, value in train.items() if key not in ours}
    known = _training_argument_names()
    for key, value in arguments.items():
        _check_key(key, (*known, *ours), "train")
        _check_argument(key, value, known[key])
    for key, length in (("rand_augment", 2), ("crop_scale", 2), ("global_crop_scale", 2), ("local_crop_scale", 2)):
        if data.get(key) is not None and len(data[key]) != length:
            raise UserError(f"data.{key} must be a list of {length} numbers, got {data[key]!r}")
    if arguments.get("label_smoothing_factor") and task != "image-classification":
        raise UserError(f"train.label_smoothing_factor is of image-classification, the task is {task}")
    _check_value("train.optimizer", train_options.optimizer, ("adamw", "lion"))
    _check_value("train.self_distillation_loss", train_options.self_distillation_loss, ("dino", "coding_rate"))
    if train_options.ema_decay is not None and not 0 < train_options.ema_decay < 1:
        raise UserError(f"train.ema_decay must be in (0, 1), got {train_options.ema_decay}")
    return Recipe(str(content.get("name", name)), task, model, data_options, train_options, arguments)


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


def _read(name_or_path: str) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise UserError(f"no recipe file at {path}")
        text = path.read_text(encoding="utf-8")
    else:
        known = shipped_recipes()
        if name_or_path not in known:
            raise UserError(
                f"unknown recipe {name_or_path!r}{_near(name_or_path, known)}; `crate recipes` lists them all"
            )
        text = (resources.files(__package__) / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{name_or_path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{name_or_path} is not a recipe: expected the sections model, data and train")
    return content


def _training_argument_names() -> dict[str, str]:
    """Name -> its type, as it is written."""
    from transformers import TrainingArguments  # heavy: it pulls in the whole Trainer

    refused = {"output_dir", "resume_from_checkpoint", "logging_dir", "optim", "optim_args"}
    found = TrainingArguments.__dataclass_fields__
    return {name: getattr(f.type, "__name__", str(f.type)) for name, f in found.items() if name not in refused}


_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "eval_steps": 1,
    "save_steps": 1,
    "logging_steps": 1,
    "dataloader_num_workers": 0,
    "warmup_steps": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
}


def _check_argument(key: str, value: Any, annotation: str) -> None:
    """A value of transformers' TrainingArguments; where its type is plain, it must fit."""
    plain = {word.strip() for word in annotation.split("|")} <= {"int", "float", "bool", "str", "None"}
    if plain and not _fits(value, annotation):
        raise UserError(f"train.{key} must be {annotation}, got {value!r}")
    if key in _AT_LEAST and isinstance(value, int | float) and value < _AT_LEAST[key]:
        raise UserError(f"train.{key} must be at least {_AT_LEAST[key]}, got {value}")
    if key == "max_steps" and value < 1 and value != -1:
        raise UserError(f"train.max_steps must be at least 1, or -1 for whole epochs, got {value}")
    if key == "num_train_epochs" and not value > 0:
        raise UserError(f"train.num_train_epochs must be positive, got {value}")


def checked_options(kind: type, values: Mapping[str, Any], section: str) -> Any:
    """Options of a section; a key or a value that does not fit is a ValueError that names it."""
    names = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        _check_key(key, names, section)
        kind_of_value = getattr(names[key].type, "__name__", None) or str(names[key].type)
        if not _fits(value, str(names[key].type)):
            raise UserError(f"{section}.{key} must be {kind_of_value}, got {value!r}")
    return kind(**values)


def _fits(value: Any, annotation: str) -> bool:
    if value is None:
        return "None" in annotation
    if "list" in annotation:
        return isinstance(value, list) and all(isinstance(x, int | float) for x in value)
    if "bool" in annotation:
        return isinstance(value, bool)
    if "str" in annotation:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and ("float" in annotation or isinstance(value, int))


def _check_key(key: str, known: Iterable[str], where: str) -> None:
    known = list(known)
    if key not in known:
        prefix = f"{where}." if where in ("model", "data", "train") else ""
        raise UserError(f"unknown key {prefix}{key} in {where}{_near(key, known)}")


def _check_value(key: str, value: Any, known: Iterable[str]) -> None:
    known = list(known)
    if value not in known:
        raise UserError(f"{key} must be one of {', '.join(known)}, got {value!r}{_near(str(value), known)}")


def _near(word: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def _near_key(key: str) -> str:
    name = key.rpartition(".")[2]
    choices = [f"data.{f.name}" for f in fields(DataOptions)] + [f"train.{f.name}" for f in fields(TrainOptions)]
    choices += [f"train.{argument}" for argument in _training_argument_names()]
    choices += [f"model.{f}" for family in FAMILIES.values() for f in family.config_fields]
    exact = next((choice for choice in choices if choice.partition(".")[2] == name), None)
    return f"; did you mean {exact!r}?" if exact else _near(key, choices)


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
