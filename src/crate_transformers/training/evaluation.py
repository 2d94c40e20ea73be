"""`evaluate_model`: the metrics of a saved model, with the data options of the run that made it."""

import filecmp
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..models.opening import open_config
from ..models.stored import read_json
from ..upstream import TRAINER_STATE_NAME
from .prediction import evaluate_classifier
from .recipe import DataOptions, Recipe, checked_options, recipe_of
from .recipe_text import read_yaml_file
from .trainer import checkpoints_in

_IMAGE_OPTIONS = ("root", "validation_fraction", "test_fraction", "skip_unreadable")


def evaluate_model(
    folder: str | Path, source: str | None = None, split: str = "test", settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Metrics of a model on one part of a data source.

    Args:
        source: None takes what the model was trained on, as its recipe.yaml says, split in the same way.
        settings: data.NAME values that override the recipe's.

    Raises:
        ValueError: no source and no recipe beside the model, a setting that is none, data that do not fit.
    """
    is_text = _is_text(folder)
    recipe = recipe_beside(folder)
    data = data_options(recipe, source, settings or {})
    if is_text:
        from .text_evaluation import evaluate_language_model  # only for text models

        return evaluate_language_model(
            folder, data, split, recipe, tokenizer_source=(settings or {}).get("data.tokenizer")
        )
    options = {name: getattr(data, name) for name in _IMAGE_OPTIONS}
    seed = recipe.seed if recipe is not None else 0
    return evaluate_classifier(folder, data.source, split, seed=seed, **options)


def recipe_beside(folder: str | Path) -> Recipe | None:
    """The recipe of the run that made a model, where it lies in the same folder.

    Raises:
        ValueError: it is damaged.
    """
    path = Path(folder).expanduser() / "recipe.yaml"
    if not path.is_file():
        return None
    content, _ = read_yaml_file(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no recipe")
    try:
        return recipe_of(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def data_options(recipe: Recipe | None, source: str | None, settings: Mapping[str, Any]) -> DataOptions:
    known = {f.name for f in fields(DataOptions)}
    for key in settings:
        if not key.startswith("data.") or key.removeprefix("data.") not in known:
            raise UserError(f"unknown setting {key!r}: evaluate takes data.NAME, e.g. data.root")
    values = {f: getattr(recipe.data, f) for f in known} if recipe is not None else {}
    values.update({key.removeprefix("data."): value for key, value in settings.items()})
    if source is not None:
        values["source"] = source
    if "source" not in values:
        raise UserError("there is no recipe.yaml beside the model: say what to evaluate on with --data")
    return checked_options(DataOptions, values, "data")


def _is_text(folder: str | Path) -> bool:
    return open_config(folder).model_type in ("crate", "bert", "gpt2")


def describe_model(folder: str | Path) -> str:
    """Which model a folder holds, as far as what lies beside it tells.

    Example:
        "runs/digits: the best model of its run (step 15 of 20, accuracy 0.9371)"
    """
    weights = Path(folder).expanduser() / "model.safetensors"
    if (weights.parent / TRAINER_STATE_NAME).is_file():
        state = read_json(weights.parent / TRAINER_STATE_NAME)
        return f"{folder}: the checkpoint of step {state.get('global_step')} of {state.get('max_steps')}"
    if not (weights.parent / "recipe.yaml").is_file():
        return f"{folder}"
    checkpoints = checkpoints_in(weights.parent / "checkpoints")
    for checkpoint in reversed(checkpoints):
        file = checkpoint / weights.name
        if file.is_file() and weights.is_file() and filecmp.cmp(file, weights, shallow=False):
            return f"{folder}: {_place_in_run(checkpoint.name, read_json(checkpoints[-1] / TRAINER_STATE_NAME))}"
    return f"{folder}: the model of its run"


def _place_in_run(checkpoint: str, state: Mapping[str, Any]) -> str:
    """Best or last: what a run's last state says of the checkpoint that its model equals."""
    step, best = checkpoint.rpartition("-")[2], state.get("best_global_step")
    of = f"step {step} of {state.get('global_step')}"
    if best is None:
        return f"the last model of its run ({of})"
    if str(best) != step:
        return f"a model of its run ({of}), not the best, which is of step {best}"
    entries = [entry for entry in state.get("log_history", []) if entry.get("step") == best]
    metrics = (
        f", {name.removeprefix('eval_')} {value:.4g}"
        for entry in entries
        for name, value in entry.items()
        if name.startswith("eval_") and value == state.get("best_metric")
    )
    return f"the best model of its run ({of}{next(metrics, '')})"


__all__ = ["data_options", "describe_model", "evaluate_model", "recipe_beside"]
