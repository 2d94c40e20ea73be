"""`crate plan`: what a run costs, before anything is spent."""

import json
from typing import Annotated

import typer

from .settings import parse_settings


def plan(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name (crate recipes) or a YAML file.")],
    gpus: Annotated[int, typer.Option(help="Devices, one process each.")] = 1,
    device: Annotated[str, typer.Option(help="h100, h200, a100, rtx4090, mi300x, ..., or cpu.")] = "h100",
    data: Annotated[str | None, typer.Option(help="As of crate train.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any value of the recipe.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Training samples of data that are not here.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Classes of the data, likewise.")] = None,
    vocabulary: Annotated[int | None, typer.Option(min=1, help="Tokens of the tokenizer, likewise.")] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the device's peak rate that the run reaches.")] = 0.3,
    price: Annotated[float | None, typer.Option(help="Of a device for an hour.")] = None,
    energy_price: Annotated[float | None, typer.Option(help="Of a kilowatt-hour.")] = None,
    watts: Annotated[float | None, typer.Option(help="Power of a device, instead of its maker's figure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run takes: operations, memory, disk, time, energy, cost. Nothing is trained or written."""
    from ..planning import Terms
    from ..planning import plan as plan_run
    from ..planning.showing import lines_of
    from ..recipes.loading import load_recipe

    values = parse_settings(settings)
    if data is not None:
        values["data.source"] = data
    terms = Terms(gpus, utilisation, price, energy_price, watts)
    found = plan_run(load_recipe(recipe, values), device, terms, samples, classes, vocabulary)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
        return
    for line in lines_of(found):
        typer.echo(line)


__all__ = ["plan"]
