"""`crate segment`: masks out of attention and out of subspace features."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Heads, check_folder, note, one_by_one


def segment(
    model: Annotated[str, typer.Argument(help="An image model's folder or hub name, or a public checkpoint file.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    layer: Annotated[
        int | None, typer.Option(help="From 0, negative from the end. Default: the second-to-last.")
    ] = None,
    fraction: Annotated[float, typer.Option(help="How much of the attention (or of the patches) a mask holds.")] = 0.6,
    masks: Annotated[int, typer.Option(help="MaskCut: at most so many objects an image.")] = 3,
    threshold: Annotated[float, typer.Option(help="MaskCut: cosine above which two patches are alike.")] = 0.15,
    side: Annotated[
        int | None,
        typer.Option(help="Shorter side in pixels that images are run at, keeping shape. Default: the model's size."),
    ] = None,
    figures: Annotated[int, typer.Option(help="Draw a figure of all heads for the first so many images.")] = 12,
    evaluate: Annotated[
        Path | None,
        typer.Option(help="A folder of label maps (png; 0 background, 255 left out), named like the images: score."),
    ] = None,
    heads: Heads = None,
) -> None:
    """Segment images: masks of every head's attention, objects by MaskCut, overlays; with a truth, their scores."""
    folder = check_folder(output)
    from ..analysis.segmenting import SegmentationSettings
    from ..evaluation.segmentation import SegmentRequest, segment_files

    result = segment_files(
        SegmentRequest(model, images, heads, side, evaluate),
        folder,
        SegmentationSettings(layer, fraction, masks, threshold),
        figures,
        progress=one_by_one,
        on_note=note,
    )
    if result.scores is not None:
        for method, score in result.scores.items():
            more = "".join(
                f", {kind} AP50 {score[kind]['AP50']:.3f} AP75 {score[kind]['AP75']:.3f} AP {score[kind]['AP']:.3f}"
                for kind in ("mask", "box")
                if kind in score
            )
            typer.echo(f"{method}: mean IoU {score['mean_iou']:.3f}{more}")
            if "note" in score:
                typer.echo(f"  {score['note']}")
    scored = " and scores.json" if result.scores is not None else ""
    typer.echo(f"masks and overlays of {result.num_images} images{scored} written to {folder}")


__all__ = ["segment"]
