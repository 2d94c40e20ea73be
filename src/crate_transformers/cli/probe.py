"""`crate probe`: what a frozen model's features know."""

from pathlib import Path
from typing import Annotated

import typer

from .settings import parse_settings
from .terminal import Heads, note, one_by_one, output_folder


def probe(
    model: Annotated[str, typer.Argument(help="An image model's folder or hub name, or a public checkpoint file.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    data: Annotated[
        str | None, typer.Option(help="As in `crate train`; default: what the model was trained on.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Probe every layer, and plot accuracy over depth.")] = False,
    shots: Annotated[
        int | None, typer.Option(help="Labelled training images a class. Default: all training images.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="With --shots: how many draws of labelled images.")] = 5,
    pool: Annotated[
        str | None, typer.Option(help="cls or mean (of the patches). Default: what the model's own head reads.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many images of each part, evenly spread.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="data.root=... and its like.")] = None,
    heads: Heads = None,
) -> None:
    """Freeze a model; nearest neighbours, a linear classifier and coding rates of classes on its features."""
    from ..evaluation.opening import open_model, processor_of
    from ..evaluation.probing import ProbeRequest, probe_model

    opened = open_model(model, heads, on_note=note)
    processor = processor_of(opened, model)
    result = probe_model(
        opened,
        processor,
        output_folder(output),
        ProbeRequest(
            folder=model,
            source=data,
            settings=parse_settings(settings),
            every_layer=layers,
            pool=pool,
            shots=shots,
            seeds=seeds,
            limit=limit,
        ),
        progress=one_by_one,
    )
    for row in result.rows:
        spread = f" +- {row['interval_95']:.4f}" if row["seeds"] > 1 else ""
        where = f"layer {row['layer']}" if isinstance(row["layer"], int) else row["layer"]
        typer.echo(f"{where}, {row['probe']}: accuracy {row['accuracy']:.4f}{spread}")
    for spread in result.spreads:
        where = f"layer {spread.layer}" if isinstance(spread.layer, int) else spread.layer
        typer.echo(
            f"{where}, rates: R {spread.rate:.3f}, R_c {spread.class_rate:.3f}, Delta R {spread.rate_reduction:.3f} "
            f"nats ({len(spread.by_class)} classes, {spread.samples} held-out images)"
        )
    typer.echo(
        f"{result.labelled} labelled, {result.held_out} held-out images of {result.data}; probes.csv, rates.csv, "
        f"class_rates.csv, probes.json and the figures depth and rates written to {output}"
    )


__all__ = ["probe"]
