"""`crate submit`: a run as a job of Slurm."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from .settings import parse_settings

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+)(?::00)?")


def submit(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name (crate recipes) or a YAML file.")],
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    gpus_per_node: Annotated[
        int, typer.Option(min=0, help="GPUs of each, and processes; 0: one process on its CPUs.")
    ] = 1,
    time: Annotated[str, typer.Option(help="Minutes, H:MM or D-H:MM; then it goes back into the queue.")] = ("24:00"),
    partition: Annotated[str | None, typer.Option(help="Slurm's partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Slurm's account.")] = None,
    slurm: Annotated[
        list[str] | None, typer.Option(help="Any other option of sbatch, e.g. cpus_per_task=12, qos=high, mem=120GB.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="As for crate train.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As for crate train.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder, on a disk that all nodes share; default: runs/RECIPE.")
    ] = None,
    max_restarts: Annotated[int, typer.Option(min=0, help="How often processes that die are started again.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job's script; submit nothing.")] = False,
) -> None:
    """Submit a run to Slurm; it saves and goes back into the queue when its time is up, and goes on by itself."""
    from .. import training
    from ..training.slurm import LOGS, Job, train_arguments
    from ..training.slurm import submit as submit_job

    values = parse_settings(settings)
    loaded = training.load_recipe(recipe, {**values, **({"data.source": data} if data is not None else {})})
    folder = (output if output is not None else Path("runs") / loaded.name).absolute()
    place = str(Path(recipe).absolute()) if Path(recipe).is_file() else recipe
    job = Job(train_arguments(place, folder, data, settings or []), max(gpus_per_node, 1), max_restarts)
    options: dict[str, Any] = {"job_name": loaded.name, "time": minutes_of(time), **_others(slurm or [])}
    if gpus_per_node:
        options["gpus_per_node"] = gpus_per_node
    options.update({name: value for name, value in (("partition", partition), ("account", account)) if value})
    done = submit_job(job, folder, nodes, options, dry_run)
    if dry_run:
        typer.echo(done.script)
        typer.echo("# each node runs")
        typer.echo("# " + " ".join(job.line(nodes, "FIRST_NODE", "JOB")))
        typer.echo("nothing was written or submitted")
    else:
        typer.echo(f"job {done.job} submitted; its logs are in {folder / LOGS}, the run will be in {folder}")


def minutes_of(time: str) -> int:
    """Minutes of a time as Slurm writes it.

    Raises:
        UserError: it is none.

    Example:
        >>> minutes_of("90"), minutes_of("1:30"), minutes_of("2-0:00")
        (90, 90, 2880)
    """
    found = _TIME.fullmatch(time)
    if not found or not any(int(part or 0) for part in found.groups()):
        raise UserError(f"--time must be minutes, H:MM or D-H:MM, got {time!r}")
    days, hours, minutes = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes


def _others(given: list[str]) -> dict[str, Any]:
    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"--slurm must be NAME=VALUE, got {text!r}")
        options[name.replace("-", "_")] = int(value) if value.isdigit() else value
    return options


__all__ = ["minutes_of", "submit"]
