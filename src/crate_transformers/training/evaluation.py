"""`evaluate_model`: the metrics of a saved model, with the data options of the run that made it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig

from ..errors import UserError
from .prediction import evaluate_classifier
from .recipe import DataOptions, Recipe, checked_options, recipe_of

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
    path = Path(folder) / "recipe.yaml"
    return recipe_of(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else None


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
    try:
        return AutoConfig.from_pretrained(folder).model_type in ("crate", "bert", "gpt2")
    except (OSError, ValueError) as error:
        raise UserError(f"no usable model at {folder}: {str(error).splitlines()[0]}") from error


__all__ = ["data_options", "evaluate_model", "recipe_beside"]
