"""`crate features`: the features of a model on a data set, as one file."""

from pathlib import Path
from typing import Annotated

import typer

from .settings import parse_settings
from .terminal import Heads, note, one_by_one


def features(
    model: Annotated[str, typer.Argument(help="A model's folder or hub name, or a public checkpoint file.")],
    output: Annotated[Path, typer.Option(help="The file to write, FILE.npz.")],
    data: Annotated[
        str | None,
        typer.Option(help="As in `crate train`, or a PATH of images; default: what the model was trained on."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text file, or words, for a language model.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="From 0; negative from the end; embedding; all. May be repeated. Default: the last."),
    ] = None,
    what: Annotated[
        list[str] | None, typer.Option(help="pooled, tokens or codes. May be repeated. Default: pooled.")
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="Of images cls or mean (default: what the model's own head reads); of text mean, first, last."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="At most so many samples, of images evenly spread.")] = None,
    length: Annotated[int, typer.Option(help="Tokens of a stretch of text, at most.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Samples in one run of the model.")] = 64,
    float16: Annotated[bool, typer.Option("--float16", help="Store float16 instead of float32.")] = False,
    settings: Annotated[list[str] | None, typer.Option("--set", help="data.root=... and its like.")] = None,
    heads: Heads = None,
) -> None:
    """Write features of any layer, pooled, by token, or the sparse codes, with labels and names, to one .npz."""
    from ..evaluation.feature_files import FeatureRequest, write_features
    from ..evaluation.opening import open_model

    request = FeatureRequest(
        folder=model,
        source=data,
        settings=parse_settings(settings),
        split=split,
        text=text,
        length=length,
        layers=tuple(int(name) if name.lstrip("-").isdecimal() else name for name in layer or ["-1"]),
        what=tuple(what or ["pooled"]),
        pool=pool,
        limit=limit,
        batch_size=batch_size,
        half=float16,
    )
    header = write_features(open_model(model, heads, on_note=note), output, request, progress=one_by_one, on_note=note)
    for name, about in header["arrays"].items():
        typer.echo(f"{name}: {' x '.join(map(str, about['shape']))}, {about['dtype']}")
    typer.echo(f"features of {header['count']} samples of {header['data']} written to {output}")


__all__ = ["features"]
