"""`evaluate_model`: the metrics of a saved model, with the data options of the run that made it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..configuration import MODEL_FAMILIES
from ..errors import UserError
from ..models.opening import open_config
from ..recipes.loading import options_of
from ..recipes.options import DataOptions
from ..recipes.schema import Recipe
from ..recipes.tasks import known_options
from ..recipes.tasks.images import ImageData
from ..recipes.tasks.language_modeling import MaskedLanguageData
from .classification import evaluate_classifier
from .run_folder import recipe_beside
from .text_evaluation import evaluate_language_model

Data = TypeVar("Data", bound=DataOptions)


def evaluate_model(
    folder: str | Path, source: str | None = None, split: str = "test", settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Metrics of a model on one part of a data source.

    Args:
        source: None takes the data that the model was trained on, as its recipe.yaml says, split in the same way.
        split: "train", "validation" or "test".
        settings: values by "data.NAME" that override the recipe's.

    Raises:
        ValueError: there is neither a source nor a recipe beside the model, a setting is unknown, or data do not fit.
    """
    settings = settings or {}
    is_text = _is_text(folder)
    recipe = recipe_beside(folder)
    if is_text:
        text = data_options(MaskedLanguageData, recipe, source, settings)
        return evaluate_language_model(folder, text, split, recipe, tokenizer_source=settings.get("data.tokenizer"))
    data = data_options(ImageData, recipe, source, settings)
    return evaluate_classifier(
        folder,
        data.source,
        split,
        root=data.root,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        seed=recipe.seed if recipe is not None else 0,
        skip_unreadable=data.skip_unreadable,
    )


def data_options(kind: type[Data], recipe: Recipe | None, source: str | None, settings: Mapping[str, Any]) -> Data:
    """The data options of an evaluation: those of the recipe, overridden by the settings and by the source.

    Args:
        kind: the options that the evaluation reads. Settings of other options are checked and not used.

    Raises:
        UserError: a setting is no data option, a value does not fit, or there is no source.
    """
    known = known_options("data")
    for key in settings:
        if not key.startswith("data.") or key.removeprefix("data.") not in known:
            raise UserError(f"unknown setting {key!r}: evaluate takes data.NAME, e.g. data.root")
    values = dict(vars(recipe.data)) if recipe is not None else {}
    values.update({key.removeprefix("data."): value for key, value in settings.items()})
    if source is not None:
        values["source"] = source
    if "source" not in values:
        raise UserError("there is no recipe.yaml beside the model: say what to evaluate on with --data")
    options, _ = options_of(kind, values, "data")
    return options


def _is_text(folder: str | Path) -> bool:
    kind = open_config(folder).model_type
    return MODEL_FAMILIES[kind].reads == "text" if kind in MODEL_FAMILIES else kind in ("bert", "gpt2")


__all__ = ["data_options", "evaluate_model"]
