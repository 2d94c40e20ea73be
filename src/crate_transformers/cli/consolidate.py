"""`crate consolidate`: the checkpoint of a run, sharded or not, to a Hugging Face folder."""

from pathlib import Path
from typing import Annotated

import typer


def consolidate(
    source: Annotated[Path, typer.Argument(help="The folder of a run, or of one of its checkpoints.")],
    output: Annotated[
        Path | None, typer.Option(help="The folder to write; default: consolidated in the run's folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that folder.")] = False,
) -> None:
    """Make a model's folder of a run's checkpoint, be it sharded or gathered: of the best one, or the newest."""
    from ..models.quiet import quiet_transformers
    from ..training.consolidation import consolidate as consolidate_checkpoint

    with quiet_transformers():
        done = consolidate_checkpoint(source, output, overwrite, on_note=typer.echo)
    weights = "the average of its weights" if done.of_average else "its weights"
    typer.echo(
        f"{done.kind} with {done.parameters:,} parameters, {weights} at step {done.step}, written to {done.folder}"
    )


__all__ = ["consolidate"]
