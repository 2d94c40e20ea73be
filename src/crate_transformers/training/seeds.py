"""One recipe with several seeds, a run each, and what they amount to: `crate train RECIPE --seeds N`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from ..errors import UserError
from ..evaluation.probes import interval
from ..evaluation.run_folder import RECIPE_FILE
from ..recipes.schema import Recipe
from ..report.writing import write_json
from .run import RunResult, train

SEEDS_FILE = "seeds.json"
SEED_SETTING = "train.seed"
_NO_MEASURES = (
    "seconds", "samples_per_second", "data_wait_fraction", "checkpoint_wait_seconds", "steps", "epochs", "parameters",
    "flops",
)  # fmt: skip


@dataclass(frozen=True)
class SeedsResult:
    """How the runs of several seeds ended.

    Attributes:
        status: "finished", or "interrupted" where a run was stopped; the later seeds were not begun then.
        runs: the result of each run, in the order of the seeds.
        summary: by part of the data and metric: mean, standard_deviation (n - 1), interval_95 (half its width, by
            Student's t), values; empty for runs that were interrupted. The last two are None for a single seed.
    """

    status: str
    runs: list[RunResult]
    summary: dict[str, dict[str, dict[str, Any]]]


def train_seeds(
    recipe_of_seed: Callable[[int], Recipe],
    count: int,
    output: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
) -> SeedsResult:
    """Train a recipe with the seeds 0 to count - 1, into output/seed-0, output/seed-1, ..., and write seeds.json.

    Args:
        recipe_of_seed: the recipe with a seed. The seed is that of all that is random in a run: the first weights, the
            order and augmentation of the data, and the split of data that have no held-out part of their own.
        resume: pass over finished runs, continue the one that was cut off, begin those that are missing.
        overwrite: delete each run first. on_note: receives lines for the user.

    Raises:
        ValueError: what `train` raises; the folder itself holds a run, or a folder holds one and neither resume nor
            overwrite was asked for.
    """
    output = Path(output)
    if count < 1:
        raise UserError(f"--seeds must be at least 1, got {count}")
    if (output / RECIPE_FILE).is_file():
        raise UserError(f"{output} holds a run of one seed: name another folder for the runs of {count}")
    recipes = [recipe_of_seed(seed) for seed in range(count)]
    if not (resume or overwrite):
        taken = [folder for seed in range(count) if (folder := output / f"seed-{seed}").exists()]
        if taken:
            raise UserError(
                f"{taken[0]} is there already: pass --resume to continue or --overwrite to replace the runs"
            )
    runs: list[RunResult] = []
    for seed, recipe in enumerate(recipes):
        on_note(f"seed {seed}, {seed + 1} of {count}")
        runs.append(train(recipe, output / f"seed-{seed}", resume, overwrite, on_note))
        if runs[-1].status == "interrupted":
            return SeedsResult("interrupted", runs, {})
    summary = summarise([run.metrics for run in runs])
    if PartialState().is_main_process:
        about = {
            "recipe": recipes[0].name,
            "seeds": list(range(count)),
            "folders": [run.output.name for run in runs],
            "over": "training seeds; data that have no held-out part of their own are split anew with each seed",
        }
        write_json(output / SEEDS_FILE, {**about, "metrics": summary})
    return SeedsResult("finished", runs, summary)


def summarise(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean, standard deviation and t interval of every measure that all runs have.

    Args:
        metrics: the content of metrics.json of each run.
    """
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for part, values in metrics[0].items():
        for name in values if isinstance(values, Mapping) else ():
            found = [run.get(part, {}).get(name) for run in metrics]
            if name in _NO_MEASURES or not all(isinstance(value, float) for value in found):
                continue
            mean, half = interval(found)
            single = len(found) < 2
            summary.setdefault(part, {})[name] = {
                "mean": mean,
                "standard_deviation": None if single else float(np.std(found, ddof=1)),
                "interval_95": None if single else half,
                "values": found,
            }
    return summary


__all__ = ["SEEDS_FILE", "SEED_SETTING", "SeedsResult", "summarise", "train_seeds"]
