"""`crate export`: a model as a file that runs without this library."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from ..errors import UserError
from .terminal import Heads, note

_FORMATS = {".onnx": "onnx", ".pt2": "torch", ".pt": "torch"}


def export(
    model: Annotated[str, typer.Argument(help="A model's folder or hub name, or a public checkpoint file.")],
    output: Annotated[Path, typer.Option(help="The file to write.")],
    format: Annotated[
        str | None, typer.Option(help="onnx, or torch (torch.export, .pt2). Default: by the name of the file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a file that is there.")] = False,
    heads: Heads = None,
) -> None:
    """Export a model, fused, to ONNX or torch.export; batch and image size, or length of text, stay free."""
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: name the file to write")
    if format is None:
        format = _FORMATS.get(output.suffix)
        if format is None:
            raise UserError(f"--output {output} says no format: end it in .onnx or .pt2, or pass --format")
    if format not in ("torch", "onnx"):
        raise UserError(f"--format must be onnx or torch, got {format!r}")
    if output.exists() and not overwrite:
        raise UserError(f"{output} is there already: pass --overwrite to replace it")
    from ..evaluation.exporting import export_source

    exported = export_source(model, output, cast(Literal["onnx", "torch"], format), heads, note)
    size = output.stat().st_size / 2**20
    typer.echo(f"{Path(model).name} written to {output} ({format}, {size:.1f} MiB; {exported})")


__all__ = ["export"]
