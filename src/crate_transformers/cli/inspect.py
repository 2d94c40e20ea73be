"""`crate inspect`: what every layer of a model does."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .looking import Heads


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
    from ..analysis import inspect_model, inspect_text
    from . import looking

    opened = looking.open_model(model, heads)
    folder = looking.output_folder(output)
    name = Path(model).name
    if opened.main_input_name == "pixel_values":
        if text is not None:
            raise UserError(f"{name} reads images: pass --data, not --text")
        inputs = looking.image_inputs(opened, model, data or "digits", split, limit, batch_size)
        second = None
        if baseline is not None:
            other = looking.open_model(baseline, baseline_heads, "--baseline-heads")
            if other.main_input_name != opened.main_input_name:
                raise UserError(f"{name} reads images, {Path(baseline).name} does not: no baseline of it")
            more = looking.image_inputs(other, baseline, data or "digits", split, limit, batch_size)
            second = (Path(baseline).name, other, looking.with_progress(more.batches, more.count, "measuring"))
        result = inspect_model(
            opened,
            looking.with_progress(inputs.batches, inputs.count, "measuring"),
            folder,
            mode,  # type: ignore[arg-type]
            name=name,
            on=inputs.name,
            part=part,
            layer=layer,
            num_pictures=pictures,
            patch=patch,
            normalisation=inputs.normalisation,
            baseline=second,
            batch_size=batch_size,
        )
    else:
        for option, given in (("--part", part != "encoder"), ("--patch", patch is not None)):
            if given:
                raise UserError(f"{name} reads text: {option} is of images")
        if data is not None and data.startswith("text:"):
            text, data = text or data.removeprefix("text:"), None
        if (text is None) == (data is None):
            raise UserError(f"{name} reads text: pass --text FILE (or words)")
        tokenizer, second = None, None
        if data is not None:
            if not data.startswith("tensors:"):
                raise UserError(f"{name} reads text: pass --text FILE (or words), or --data tensors:FILE.safetensors")
            inputs = looking.tensor_inputs(data.removeprefix("tensors:"), limit)
        else:
            tokenizer = looking.tokenizer_of(model)
            inputs = looking.text_inputs(opened, tokenizer, str(text), limit, batch_size=batch_size)
        if baseline is not None:
            other = looking.open_model(baseline, baseline_heads, "--baseline-heads")
            if other.main_input_name != opened.main_input_name:
                raise UserError(f"{name} reads text, {Path(baseline).name} does not: no baseline of it")
            more = inputs
            if tokenizer is not None:  # the same words, in the baseline's own tokens
                own = looking.tokenizer_of(baseline)
                more = looking.text_inputs(other, own, str(text), limit, batch_size=batch_size)
            second = (Path(baseline).name, other, more.batches)
        result = inspect_text(
            opened,
            inputs.batches,
            folder,
            mode,  # type: ignore[arg-type]
            tokenizer=tokenizer,
            name=name,
            on=inputs.name,
            layer=layer,
            baseline=second,
            batch_size=batch_size,
        )
    measures = result.measures
    typer.echo(
        f"{len(measures)} layers measured on {measures.num_samples} samples of {inputs.name}, mode {mode}: R^c "
        f"{measures.coding_rate_mean[0]:.1f} -> {measures.coding_rate_mean[-1]:.1f} nats, non-zeros "
        f"{measures.nonzero_fraction_mean[0]:.2f} -> {measures.nonzero_fraction_mean[-1]:.2f}"
    )
    typer.echo(f"measures.csv, measures.json, {len(result.plates)} figures (png, svg) and report.html in {folder}")


__all__ = ["inspect"]
