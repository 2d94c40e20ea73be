"""`crate inspect`: what every layer of a model does."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from ..errors import UserError
from .terminal import Heads, check_folder, note, with_progress


def inspect(
    model: Annotated[str, typer.Argument(help="A model's folder or hub name, or a public checkpoint file.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, imagefolder:PATH, torchvision:NAME, hub:NAME, a PATH of images, or tensors:FILE.safetensors."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text file, or words, for a language model.")] = None,
    mode: Annotated[
        str, typer.Option(help="official: on the input of MSSA, unit tokens; paper: on Z_half, as it is.")
    ] = "official",
    split: Annotated[str, typer.Option(help="Which part of the data: train, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Look at no more samples than this.")] = None,
    layer: Annotated[
        int | None, typer.Option(help="Layer of maps, components and neurons, from 0; negative from the end.")
    ] = None,
    part: Annotated[str, typer.Option(help="encoder, or decoder of an autoencoder.")] = "encoder",
    baseline: Annotated[str | None, typer.Option(help="A second model, drawn in the same figures.")] = None,
    pictures: Annotated[int, typer.Option(help="How many images to draw (of an encoder).")] = 6,
    patch: Annotated[
        tuple[int, int] | None, typer.Option(help="ROW COLUMN of a patch, from 0: draw where it looks, too.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples in one run of the model.")] = 16,
    heads: Heads = None,
    baseline_heads: Heads = None,
) -> None:
    """Look inside a model: rates, sparsity, subspaces, attention, layer by layer, as table, figures and a page."""
    if mode not in ("official", "paper"):
        raise UserError(f"--mode must be official or paper, got {mode!r}")
    if pictures < 0 or batch_size < 1:
        raise UserError(f"--pictures must be >= 0 and --batch-size >= 1, got {pictures} and {batch_size}")
    if part == "decoder" and (patch is not None or layer is not None):
        raise UserError("--patch and --layer choose maps of the encoder: a decoder is measured alone")
    if baseline is None and baseline_heads is not None:
        raise UserError("--baseline-heads is of the --baseline, and there is none")
    folder = check_folder(output)
    from ..analysis.study import StudyOptions
    from ..evaluation.inspection import Subject, inspect_source

    study = inspect_source(
        Subject(model, heads, baseline, baseline_heads, data, text, split, limit),
        folder,
        StudyOptions(
            cast(Literal["official", "paper"], mode), part, batch_size, layer=layer, num_pictures=pictures, patch=patch
        ),
        progress=with_progress,
        on_note=note,
    )
    measures = study.measures[study.name]
    kinds = set(measures.coding_rate_of)
    rate = "variational rate" if kinds == {"memberships"} else "R^c of the values" if kinds == {"values"} else "R^c"
    typer.echo(
        f"{len(measures)} layers measured on {measures.num_samples} samples of {study.on}, mode {mode}: {rate} "
        f"{measures.coding_rate_mean[0]:.1f} -> {measures.coding_rate_mean[-1]:.1f} nats, non-zeros "
        f"{measures.nonzero_fraction_mean[0]:.2f} -> {measures.nonzero_fraction_mean[-1]:.2f}"
    )
    typer.echo(f"measures.csv, measures.json, {len(study.plates)} figures (png, svg) and report.html in {folder}")


__all__ = ["inspect"]
