"""One run from its recipe to what it leaves: train, measure, forget the weights."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

from crate_transformers.data import load_image_source
from crate_transformers.errors import UserError
from crate_transformers.recipes import Recipe, recipe_of
from crate_transformers.training import train

from .baselines import chance, xz
from .experiments import Run
from .measures import of_emergence, of_layers, of_robustness, untrained
from .pictures import HISTORY, KeptPixels, kept_splits, outlines_of, wait_for

DIGITS = 5  # of a number that is kept


def execute(run: Run, kept: Path) -> dict[str, Any]:
    """Make a run; what it leaves, ready for JSON.

    Args:
        kept: the folder of the data sets that `keep` made.
    """
    if run.group == "chance" or run.content.get("data", {}).get("source", "").startswith("kept:"):
        wait_for(kept / run.data)
    started = time.perf_counter()
    if run.group in ("chance", "xz"):
        found = chance(run.content, kept / run.data) if run.group == "chance" else xz(run.content)
        return rounded({**found, "recipe": run.content, "seconds": time.perf_counter() - started})
    recipe = _with_data(run, kept)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        try:
            result = train(recipe, output)
        except UserError as error:
            if "finite" not in str(error):
                raise
            return {"diverged": str(error), "recipe": run.content, "seconds": time.perf_counter() - started}
        left: dict[str, Any] = {"recipe": run.content, "metrics": result.metrics}
        if (output / HISTORY).is_file():
            left["curve"] = _curve(json.loads((output / HISTORY).read_text()))
        if "probes" in run.measures:
            left["probes"] = _probes(recipe, output, run.looked["probes"])
        elif run.measures:
            model = AutoModelForImageClassification.from_pretrained(output).eval()
            if torch.cuda.is_available():
                model = model.cuda()
            processor = AutoImageProcessor.from_pretrained(output)
            left["trained"] = _measured(run, model, processor, kept / run.data)
            new = untrained(model, run.seed)
            of_new = tuple(name for name in run.measures if name != "robustness")
            left["untrained"] = _measured(run, new, processor, kept / run.data, of_new)
    left["seconds"] = time.perf_counter() - started
    return rounded(left)


def _with_data(run: Run, kept: Path) -> Recipe:
    """The recipe of a run with the place of its data."""
    content = json.loads(json.dumps(run.content))
    if content["data"]["source"].startswith("kept:"):
        content["data"]["source"] = f"kept:{kept / run.data}"
    return recipe_of(content)


def _curve(history: list[dict[str, Any]]) -> list[list[float]]:
    """[step, validation accuracy, validation loss] of every evaluation."""
    rows = (row for row in history if "eval_accuracy" in row)
    return [[row["step"], row["eval_accuracy"], row["eval_loss"]] for row in rows]


def _measured(
    run: Run, model: Any, processor: Any, folder: Path, measures: tuple[str, ...] | None = None
) -> dict[str, Any]:
    data = KeptPixels(kept_splits(folder).test, processor)
    names, found = run.measures if measures is None else measures, {}
    if "layers" in names:
        found["layers"] = of_layers(model, data.pixel_values(slice(0, run.looked["layers"])))
    if "robustness" in names:
        chosen = slice(0, run.looked["robustness"])
        labels = torch.from_numpy(data.images.labels[chosen])
        mean, std = (torch.tensor(v)[None, :, None, None] for v in (processor.image_mean, processor.image_std))
        found["robustness"] = of_robustness(model, data.pixel_values(chosen), labels, mean, std)
    if "emergence" in names:
        chosen = slice(0, run.looked["emergence"])
        truths = outlines_of(folder)[chosen]
        found["emergence"] = of_emergence(model, data.pixel_values(chosen), truths, run.looked["maskcut"])
    return found


def _probes(recipe: Recipe, output: Path, limit: int) -> dict[str, Any]:
    """Accuracy with few labels, of the pretrained encoder and of the same with random weights."""
    from self_supervised import probed  # the benchmark of one training seed

    data = recipe.data
    splits = load_image_source(data.source, data.root, data.validation_fraction, data.test_fraction, 0)
    processor = AutoImageProcessor.from_pretrained(output)
    model = AutoModel.from_pretrained(output)
    found: dict[str, Any] = {}
    for name, own in (("trained", model), ("untrained", untrained(model, recipe.seed))):
        found[name] = {row["probe"]: row["accuracy"] for row in probed(own, processor, splits, limit)}
    return found


def rounded(value: Any) -> Any:
    """Numbers to five digits; NaN and infinite ones, which JSON has not, become None."""
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if value == value and abs(value) != float("inf") else None
    return value


__all__ = ["execute", "rounded"]
