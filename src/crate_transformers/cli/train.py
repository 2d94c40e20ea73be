"""`crate train` and `crate recipes`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from .settings import parse_settings

DEFAULT_RECIPE = "digits"
_LONG_WAIT, _LONG_SHARE = 60.0, 0.3  # seconds, and of the whole time


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name (crate recipes) or a YAML file.")] = (
        DEFAULT_RECIPE
    ),
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, imagefolder:PATH, shards:PATH, torchvision:NAME, hub:NAME, text:PATH, csv:PATH or json:PATH."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any value of the recipe, e.g. model.hidden_size=128, train.max_steps=100."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The run's folder; default: runs/RECIPE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder, or start it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Train with the seeds 0 to N - 1, into seed-0, seed-1, ...; mean and interval."),
    ] = None,
) -> None:
    """Train a model. Without a recipe: the built-in digits, in about a minute."""
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other")
    from .. import training

    values = parse_settings(settings)
    if data is not None:
        if "data.source" in values:
            raise UserError("--data and --set data.source= say the same thing: leave one out")
        values["data.source"] = data
    if seeds is not None:
        _train_seeds(recipe, values, seeds, output, resume, overwrite)
        return
    loaded = training.load_recipe(recipe, values)
    folder = output if output is not None else Path("runs") / loaded.name
    result = training.train(loaded, folder, resume, overwrite, on_note=typer.echo)
    if result.status == "interrupted":
        if result.is_main:
            typer.echo(
                f"stopped at step {result.step} and saved; continue with the same command and --resume", err=True
            )
        raise typer.Exit(130)
    if not result.is_main:  # of several processes one speaks
        return
    if result.status == "was finished":
        typer.echo(f"the run in {folder} is finished; nothing to do")
        return
    part = next((name for name in ("test", "validation") if name in result.metrics), "train")
    named = ", ".join(f"{k} {v:.4f}" for k, v in result.metrics[part].items() if isinstance(v, float))
    typer.echo(f"{part}: {named}")
    advice = waiting_advice(result.metrics["train"], loaded.arguments.get("dataloader_num_workers", 0))
    if advice is not None:
        typer.echo(advice)
    typer.echo(f"model, metrics.json and report.html written to {folder}")


def _train_seeds(
    recipe: str, values: dict[str, Any], count: int, output: Path | None, resume: bool, overwrite: bool
) -> None:
    """A run for each seed, and a line for each metric of the test part."""
    from .. import training
    from ..training.seeds import SEED_SETTING, SEEDS_FILE

    if SEED_SETTING in values:
        raise UserError(f"--seeds sets the seeds: leave --set {SEED_SETTING} out")

    def recipe_of_seed(seed: int) -> training.Recipe:
        """The recipe with a seed."""
        return training.load_recipe(recipe, {**values, SEED_SETTING: seed})

    folder = output if output is not None else Path("runs") / recipe_of_seed(0).name
    result = training.train_seeds(recipe_of_seed, count, folder, resume, overwrite, on_note=typer.echo)
    if result.status == "interrupted":
        typer.echo(f"seed {len(result.runs) - 1} was stopped; continue with the same command and --resume", err=True)
        raise typer.Exit(130)
    part = next((name for name in ("test", "validation") if name in result.summary), "train")
    for name, row in result.summary.get(part, {}).items():
        spread = "one seed has no interval"
        if row["interval_95"] is not None:
            spread = f"+- {row['interval_95']:.4f} (95 % by t), standard deviation {row['standard_deviation']:.4f}"
        typer.echo(f"{part} {name} over {count} training seeds: {row['mean']:.4f}, {spread}")
    typer.echo(f"{SEEDS_FILE} and the runs seed-0 to seed-{count - 1} written to {folder}")


def waiting_advice(measured: dict[str, Any], workers: int) -> str | None:
    """A line for a run that waited long for data; None for one that did not, or was short.

    Args:
        measured: data_wait_fraction (0 to 1) and seconds of a run. workers: processes that prepared its data.
    """
    share = measured["data_wait_fraction"]
    if share < _LONG_SHARE or share * measured["seconds"] < _LONG_WAIT:
        return None
    sooner = "" if find_spec("simplejpeg") else "; pip install 'crate-transformers[jpeg]' reads JPEG files sooner"
    return (
        f"{share:.0%} of the time was spent waiting for data: more processes would prepare it faster "
        f"(--set train.dataloader_num_workers=N, now {workers}){sooner}"
    )


def recipes() -> None:
    """List the shipped recipes: paper, command, hardware, time, expected number."""
    from ..recipes.shipped import shipped_recipes

    for name, header in shipped_recipes().items():
        typer.secho(name, bold=True)
        for line in header.splitlines():
            typer.echo(f"    {line}")


__all__ = ["DEFAULT_RECIPE", "recipes", "train"]
