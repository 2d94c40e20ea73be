"""`crate neurons`: which tokens make a neuron fire, and what the model writes when it is set."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .terminal import Heads, check_folder, note, with_progress


def neurons(
    model: Annotated[str, typer.Argument(help="A language model's folder or hub name, or a public checkpoint file.")],
    text: Annotated[str, typer.Option(help="A text file, or words, to look for firing tokens in.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    layer: Annotated[int, typer.Option(help="From 0, negative from the end.")] = -1,
    neuron: Annotated[
        list[int] | None, typer.Option(help="A neuron to show (may be repeated). Default: the most selective.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many neurons to show where none is named.")] = 20,
    value: Annotated[
        float | None, typer.Option(help="Steer: set the neurons to this value and generate after --prompt.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Where to start writing. Default: the beginning of the text.")] = (
        None
    ),
    tokens: Annotated[int, typer.Option(help="How many tokens to write.")] = 40,
    limit: Annotated[int | None, typer.Option(help="Read no more stretches of 128 tokens than this.")] = None,
    heads: Heads = None,
) -> None:
    """Show what makes the neurons of a sparsified layer fire, in context; set one and let the model write."""
    if value is not None and not neuron:
        raise UserError("--value needs a --neuron to set")
    if value is None and prompt is not None:
        raise UserError("--prompt starts what a steered model writes: pass --neuron and --value")
    if value is not None and not math.isfinite(value):
        raise UserError(f"--value must be a finite number, got {value}")
    if count < 1 or tokens < 1:
        raise UserError(f"--count and --tokens must be >= 1, got {count} and {tokens}")
    folder = check_folder(output)
    from ..evaluation.neurons import NeuronRequest, Steering, look_at_neurons

    look = look_at_neurons(
        NeuronRequest(model, text, layer, neuron or (), count, limit, heads),
        folder,
        None if value is None else Steering(value, prompt, tokens),
        progress=with_progress,
        on_note=note,
    )
    if look.steered is not None:
        typer.echo(f"as it is: {look.steered.plain!r}\nsteered:  {look.steered.steered!r}")
    found = look.neurons
    typer.echo(f"{len(found)} neurons of layer {found.layer}: neurons.csv and neurons.html in {folder}")


__all__ = ["neurons"]
