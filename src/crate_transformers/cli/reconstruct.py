"""`crate reconstruct`: hide most patches of a picture and let an autoencoder rebuild it."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Heads, note, output_folder


def reconstruct(
    model: Annotated[str, typer.Argument(help="An autoencoder's folder or hub name, or a public checkpoint file.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    mask_ratio: Annotated[
        float | None, typer.Option(help="Fraction of the patches to hide, in [0, 1). Default: the model's.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Shorter side in pixels that images are run at. Default: the model's size.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which patches are hidden.")] = 0,
    heads: Heads = None,
) -> None:
    """Mask and rebuild images of any shape: original, masked, reconstruction and composite side by side."""
    from ..evaluation.opening import open_model, processor_of
    from ..evaluation.reconstruction import rebuild_files

    opened = open_model(model, heads, on_note=note)
    processor = processor_of(opened, model)
    folder = output_folder(output)
    count = 0
    for name, error, hidden in rebuild_files(opened, processor, images, folder, mask_ratio, side, seed):
        count += 1
        typer.echo(f"{name}: {hidden} patches hidden, mean squared error there {error:.4f} (normalised pixels)")
    typer.echo(f"{count} pictures (original, masked, reconstruction, composite) written to {folder}")


__all__ = ["reconstruct"]
