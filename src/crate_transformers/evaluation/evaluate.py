"""`evaluate_model`: the metrics of a saved model, with the data options of the run that made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..configuration import MODEL_FAMILIES
from ..data import is_held_out_source
from ..data.text.benchmarks import TEXT_BENCHMARKS, WORD_SOURCES, is_text_benchmark
from ..errors import UserError
from ..models.opening import open_config
from ..recipes.loading import options_of
from ..recipes.options import DataOptions
from ..recipes.schema import Recipe
from ..recipes.tasks import known_options
from ..recipes.tasks.images import ImageData
from ..recipes.tasks.language_modeling import MaskedLanguageData
from .classification import evaluate_classifier
from .progress import Progress, unchanged
from .run_folder import recipe_beside
from .text_benchmarks import CausalReader, evaluate_lambada, evaluate_on_words
from .text_evaluation import evaluate_language_model

Data = TypeVar("Data", bound=DataOptions)


@dataclass(frozen=True)
class EvaluationOptions:
    """What else an evaluation does.

    Attributes:
        table: a comma-separated file to write, with a row a sample; of image classifiers and of lambada.
        stride: of the sliding window, in tokens; of wikitext and ptb.
        progress: passes batches on, and may show how many of them are done.
    """

    table: Path | None = None
    stride: int | None = None
    progress: Progress = unchanged


def evaluate_model(
    folder: str | Path,
    source: str | None = None,
    split: str = "test",
    settings: Mapping[str, Any] | None = None,
    more: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Metrics of a model on one part of a data source.

    Args:
        source: None takes the data that the model was trained on, as its recipe.yaml says, split in the same way. Image
            classifiers also take imagenet-v2:, imagenet-real: and imagenet-c:PATH; causal language models wikitext:,
            ptb: and lambada:PATH.
        split: "train", "validation" or "test".
        settings: values by "data.NAME" that override the recipe's.

    Returns:
        what `evaluate_classifier`, `evaluate_language_model`, `evaluate_on_words` or `evaluate_lambada` gives.

    Raises:
        ValueError: there is neither a source nor a recipe beside the model, a setting is unknown, data do not fit, or
            an option is of other models or data.
    """
    settings, more = settings or {}, more or EvaluationOptions()
    is_text = _is_text(folder)
    kind = (source or "").partition(":")[0]
    _check_options(kind, is_text, settings, more)
    recipe = recipe_beside(folder)
    if source is not None and is_text_benchmark(source):
        reader = CausalReader.open(folder, settings.get("data.tokenizer"))
        if kind in WORD_SOURCES:
            return evaluate_on_words(reader, source, split, more.stride, more.progress)
        if split != "test":
            raise UserError(f"lambada:PATH is one file: leave --split {split} out and name the file")
        return evaluate_lambada(reader, source, more.table, more.progress)
    if is_text:
        text = data_options(MaskedLanguageData, recipe, source, settings)
        return evaluate_language_model(folder, text, split, recipe, tokenizer_source=settings.get("data.tokenizer"))
    data = data_options(ImageData, recipe, source, settings)
    return evaluate_classifier(
        folder,
        data.source,
        split,
        table=more.table,
        progress=more.progress,
        root=data.root,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        seed=recipe.seed if recipe is not None else 0,
        skip_unreadable=data.skip_unreadable,
        manifest_dir=data.manifest_dir,
    )


def _check_options(kind: str, is_text: bool, settings: Mapping[str, Any], more: EvaluationOptions) -> None:
    """Refuse what would not be read; kind: what stands before the colon of --data."""
    of_text = kind in TEXT_BENCHMARKS
    if is_text != of_text and (of_text or is_held_out_source(kind)):
        raise UserError(f"{kind} is for {'language models' if of_text else 'image classifiers'}, which this is none of")
    if more.stride is not None and kind not in WORD_SOURCES:
        raise UserError(f"--stride is of {' and '.join(f'{name}:PATH' for name in WORD_SOURCES)}: leave it out")
    if more.table is not None and is_text and kind != "lambada":
        raise UserError("--csv is of image classifiers and of lambada:PATH: perplexity has no row a sample")
    allowed = ("data.tokenizer",) if of_text else ()
    unread = [key for key in settings if key not in allowed]
    if unread and (of_text or is_held_out_source(kind)):
        raise UserError(f"{kind} is read as it is: leave --set {unread[0]} out")


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


__all__ = ["EvaluationOptions", "data_options", "evaluate_model"]
