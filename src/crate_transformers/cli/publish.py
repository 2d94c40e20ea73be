"""`crate publish`: a model's folder to the Hugging Face hub, with its card."""

from pathlib import Path
from typing import Annotated

import typer


def publish(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, a conversion or a saved model.")],
    repo: Annotated[
        str | None, typer.Option(help="OWNER/NAME on the hub; without it your own, by the folder's name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; write and send nothing.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", help="The licence of the weights, by the hub's name of it, for the card.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="OWNER/DATASET:TASK: write the test result for this benchmark's leaderboard.")
    ] = None,
) -> None:
    """Send a model to the Hugging Face hub: weights, configuration, processor or tokenizer, model card, report."""
    from ..evaluation.publishing import publish as publish_folder

    done = publish_folder(
        folder, repo, dry_run, private=private, license_name=license_name, benchmark=benchmark, on_note=typer.echo
    )
    for name, size in done.files.items():
        made = " (made now)" if name in done.written else ""
        typer.echo(f"{size:>14,} bytes  {name}{made}")
    if done.left_out:
        typer.echo(f"stays here: {', '.join(done.left_out)}")
    total = f"{len(done.files)} files, {sum(done.files.values()):,} bytes"
    if dry_run:
        typer.echo(f"\n{done.card}\n{total} would be sent; nothing was written or sent")
    else:
        typer.echo(f"{total} sent to {done.address}")


__all__ = ["publish"]
