"""`crate shard`: a source of pictures to shards."""

from pathlib import Path
from typing import Annotated

import typer


def shard(
    source: Annotated[str, typer.Argument(help="digits, imagefolder:PATH, torchvision:NAME or hub:NAME.")],
    destination: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[str, typer.Option(help="tar (webdataset's layout) or parquet (the hub's).")] = "tar",
    samples: Annotated[int, typer.Option(min=1, help="Pictures of a shard.")] = 4096,
    seed: Annotated[int, typer.Option(help="Of the order in which the pictures lie in the shards.")] = 0,
    root: Annotated[str | None, typer.Option(help="Where torchvision keeps its files.")] = None,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help="Leave out what cannot be read.")] = False,
) -> None:
    """Make shards of a source of pictures: large files of many, for training at size. A stopped one goes on."""
    from ..data import ShardPlan, make_shards

    plan = ShardPlan(source, format, samples, seed, skip_unreadable, root)
    written = make_shards(plan, destination, typer.echo)
    typer.echo(f"{len(written)} shards of {sum(written.values()) / 2**20:,.1f} MiB written to {destination}")


__all__ = ["shard"]
