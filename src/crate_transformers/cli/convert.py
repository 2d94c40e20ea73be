"""`crate convert`: a public checkpoint to a Hugging Face folder."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .settings import parse_settings
from .terminal import Heads


def convert(
    source: Annotated[Path, typer.Argument(help="The checkpoint: .pth, .pt, .bin or .safetensors.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    heads: Heads = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A configuration field that a checkpoint does not hold, as key=value."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Convert a public CRATE checkpoint (vision, autoencoder, BERT-like, GPT-2-like) to a Hugging Face folder."""
    from ..interop import convert_to_folder
    from ..models.quiet import quiet_transformers

    if destination.is_dir() and any(destination.iterdir()) and not overwrite:
        raise UserError(f"{destination} is not empty: name another folder, or pass --overwrite to write into it")
    overrides = parse_settings(settings)
    for name in ("source", "destination"):
        if name in overrides:
            raise UserError(f"--set {name}: a model's configuration has no such field")
    if "num_attention_heads" in overrides and heads is not None:
        raise UserError("--heads and --set num_attention_heads exclude each other")
    overrides.setdefault("num_attention_heads", heads)
    with quiet_transformers():
        conversion = convert_to_folder(source, destination, **overrides)
    for note in conversion.notes:
        typer.echo(note)
    model = conversion.model
    typer.echo(f"{type(model).__name__} with {model.num_parameters():,} parameters written to {destination}")


__all__ = ["convert"]
