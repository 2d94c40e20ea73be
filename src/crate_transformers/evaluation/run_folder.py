"""The folder of a run: the names of its files, the recipe in it, and which of the run's models it keeps."""

import filecmp
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..models.stored import read_json
from ..recipes.loading import recipe_of
from ..recipes.reading import read_yaml_file
from ..recipes.schema import Recipe
from ..upstream import PREFIX_CHECKPOINT_DIR, TRAINER_STATE_NAME

RECIPE_FILE, METRICS_FILE, REPORT_FILE, CHECKPOINTS = "recipe.yaml", "metrics.json", "report.html", "checkpoints"


def step_of(folder: Path) -> int:
    """The step of a checkpoint, from the name of its folder."""
    return int(folder.name.rpartition("-")[2])


def folder_of_step(run_dir: Path, step: int) -> Path:
    """The folder of the checkpoint of a step, in the folder of checkpoints."""
    return run_dir / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def checkpoints_in(run_dir: Path) -> list[Path]:
    """The folders of a run's checkpoints, oldest first."""
    pattern = re.compile(rf"{re.escape(PREFIX_CHECKPOINT_DIR)}-\d+")
    found = [path for path in run_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if pattern.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir()), key=step_of)


def recipe_beside(folder: str | Path) -> Recipe | None:
    """The recipe of the run that made a model; None where it does not lie in the same folder.

    Raises:
        ValueError: the recipe is damaged.
    """
    path = Path(folder).expanduser() / RECIPE_FILE
    if not path.is_file():
        return None
    content, _ = read_yaml_file(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no recipe")
    try:
        return recipe_of(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def describe_model(folder: str | Path) -> str:
    """A line about the model in a folder, from the files beside it: which checkpoint of its run it is.

    Example:
        "runs/digits: the best model of its run (step 15 of 20, accuracy 0.9371)"
    """
    weights = Path(folder).expanduser() / "model.safetensors"
    if (weights.parent / TRAINER_STATE_NAME).is_file():
        state = read_json(weights.parent / TRAINER_STATE_NAME)
        return f"{folder}: the checkpoint of step {state.get('global_step')} of {state.get('max_steps')}"
    if not (weights.parent / RECIPE_FILE).is_file():
        return f"{folder}"
    checkpoints = checkpoints_in(weights.parent / CHECKPOINTS)
    for checkpoint in reversed(checkpoints):
        file = checkpoint / weights.name
        if file.is_file() and weights.is_file() and filecmp.cmp(file, weights, shallow=False):
            return f"{folder}: {_place_in_run(checkpoint.name, read_json(checkpoints[-1] / TRAINER_STATE_NAME))}"
    recipe = recipe_beside(weights.parent)
    if recipe is not None and recipe.train.ema_decay and checkpoints:
        state = read_json(checkpoints[-1] / TRAINER_STATE_NAME)
        step = state.get("best_global_step") or state.get("global_step")
        return f"{folder}: {_place_in_run(f'{PREFIX_CHECKPOINT_DIR}-{step}', state)}, the average of its weights"
    return f"{folder}: the model of its run"


def _place_in_run(checkpoint: str, state: Mapping[str, Any]) -> str:
    """Whether the checkpoint that a run's model equals is the best or the last one, from the run's last state."""
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


__all__ = [
    "CHECKPOINTS",
    "METRICS_FILE",
    "RECIPE_FILE",
    "REPORT_FILE",
    "checkpoints_in",
    "describe_model",
    "folder_of_step",
    "recipe_beside",
    "step_of",
]
