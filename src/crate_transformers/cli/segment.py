"""`crate segment`: masks out of attention and out of subspace features."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from .looking import Heads


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
    from ..analysis.attention import segmentation_layer
    from ..report.writing import write_json
    from ..analysis.segmenting import SegmentationSettings
    from ..analysis.segmenting import segment as run
    from ..data import find_images
    from . import looking

    opened = looking.open_model(model, heads)
    if opened.main_input_name != "pixel_values":
        raise UserError(f"{Path(model).name} reads {opened.main_input_name}, not images")
    segmentation_layer(opened, layer)
    paths = find_images(images)
    names = _names(paths)
    if evaluate is not None and names != [path.stem for path in paths]:
        raise UserError("--evaluate finds label maps by the images' names, and two images have the same")
    truths = [_truth(evaluate, path) for path in paths] if evaluate is not None else None
    processor = looking.processor_of(opened, model)
    samples = (
        _sample(opened, processor, path, name, truths[i] if truths else None, side)
        for i, (path, name) in enumerate(zip(paths, names, strict=True))
    )
    folder = looking.output_folder(output)

    def progress(stream: Any) -> Iterator[Any]:
        return looking.one_by_one(stream, len(paths), "segmenting")

    settings = SegmentationSettings(layer, fraction, masks, threshold)
    result = run(opened, samples, folder, settings, Path(model).name, figures, progress)
    if result.scores is not None:
        write_json(folder / "scores.json", result.scores)
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


def _names(paths: list[Path]) -> list[str]:
    """A name for each image's files: its stem, with a number where two are the same."""
    names: list[str] = []
    for path in paths:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}_{number}", number + 1
        names.append(name)
    return names


def _truth(folder: Path, image: Path) -> Path:
    if not folder.is_dir():
        raise UserError(f"--evaluate {folder} is not a folder of label maps")
    found = folder / f"{image.stem}.png"
    if not found.is_file():
        raise UserError(f"no label map for {image}: expected {found}")
    return found


def _sample(opened: Any, processor: Any, path: Path, name: str, truth: Path | None, side: int | None) -> Any:
    """The whole picture, resized without a crop, so that masks fit it."""
    import numpy as np
    import torch
    from PIL import Image

    from ..analysis.segmenting import Sample
    from ..configuration.validation import as_pair
    from ..data import load_image

    picture = load_image(path, getattr(opened.config, "num_channels", 3))
    patch = as_pair(opened.config.patch_size)
    height, width = as_pair(opened.config.image_size)
    if side is not None:
        if side < max(patch):
            raise UserError(f"--side {side} is smaller than a patch of {patch[0]} x {patch[1]} pixels")
        scale = side / min(picture.size)
        height, width = (max(p, round(s * scale / p) * p) for s, p in zip(picture.size[::-1], patch, strict=True))
    options = {"do_resize": True, "size": {"height": height, "width": width}, "do_center_crop": False}
    pixel_values = processor(picture, return_tensors="pt", **options)["pixel_values"]
    labels = None
    if truth is not None:
        with Image.open(truth) as opened_map:
            if opened_map.mode not in ("L", "P", "I", "I;16", "1"):
                raise UserError(f"{truth} is not a label map: expected one channel, got mode {opened_map.mode}")
            labels = torch.from_numpy(np.asarray(opened_map).astype(np.int64))
    return Sample(name, np.asarray(picture.convert("RGB")), pixel_values, labels)


__all__ = ["segment"]
