"""Segment image files with a model that a user names, and score the masks against label maps: `crate segment`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from ..analysis.attention import segmentation_layer
from ..analysis.segmenting import Sample, Segmentation, SegmentationSettings, segment
from ..configuration.validation import as_pair
from ..data import find_images, load_image
from ..errors import UserError
from ..report.writing import write_json
from .opening import ImageProcessor, open_model, processor_of


@dataclass(frozen=True)
class SegmentRequest:
    """The model and the images to segment, as a user names them.

    Attributes:
        model, heads: as in `open_model`. images: files, and folders of them.
        side: the shorter side in pixels to which images are resized, keeping their shape; None is the model's size.
        truths: a folder of label maps (png; 0 background, 255 left out), named like the images; None scores nothing.
    """

    model: str
    images: Sequence[str | Path]
    heads: int | None = None
    side: int | None = None
    truths: Path | None = None


def segment_files(
    request: SegmentRequest,
    output: Path,
    settings: SegmentationSettings | None = None,
    num_figures: int = 12,
    *,
    progress: Callable[[Iterable[Sample], int, str], Iterator[Sample]] = lambda samples, count, what: iter(samples),
    on_note: Callable[[str], None] = lambda line: None,
) -> Segmentation:
    """Segment images, and write masks and overlays, and scores.json where there are label maps.

    Args:
        output: the folder to write, made where it is missing. settings, num_figures: as in `segment`.
        progress: gets (samples, their number, what is done), passes the samples on, and may show how many are done.
        on_note: as in `open_model`.

    Raises:
        UserError: the model reads no images; images, label maps or settings do not fit.
    """
    settings = settings or SegmentationSettings()
    model = open_model(request.model, request.heads, in_single=True, on_note=on_note)
    name = Path(request.model).name
    if model.main_input_name != "pixel_values":
        raise UserError(f"{name} reads {model.main_input_name}, not images")
    segmentation_layer(model, settings.layer)
    paths = find_images(request.images)
    samples = _samples(model, request, paths)
    output.mkdir(parents=True, exist_ok=True)

    def shown(stream: Iterable[Sample]) -> Iterator[Sample]:
        return progress(stream, len(paths), "segmenting")

    result = segment(model, samples, output, settings, name, num_figures, shown)
    if result.scores is not None:
        write_json(output / "scores.json", result.scores)
    return result


def _samples(model: PreTrainedModel, request: SegmentRequest, paths: list[Path]) -> Iterator[Sample]:
    """The pictures, each read when it is asked for. Names and label maps are checked at once."""
    names, truths = _names(paths), request.truths
    if truths is not None and names != [path.stem for path in paths]:
        raise UserError("--evaluate finds label maps by the images' names, and two images have the same")
    maps = [None if truths is None else _truth(truths, path) for path in paths]
    processor = processor_of(model, request.model)
    return (
        _sample(model, processor, path, name, truth, request.side)
        for path, name, truth in zip(paths, names, maps, strict=True)
    )


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


def _sample(
    model: PreTrainedModel, processor: ImageProcessor, path: Path, name: str, truth: Path | None, side: int | None
) -> Sample:
    """A sample of the whole picture, which is resized without a crop, so that masks fit it."""
    picture = load_image(path, getattr(model.config, "num_channels", 3))
    height, width = _size(model, picture, side)
    options = {"do_resize": True, "size": {"height": height, "width": width}, "do_center_crop": False}
    pixel_values = processor(picture, return_tensors="pt", **options)["pixel_values"]  # (1, C, height, width)
    labels = None if truth is None else _read_labels(truth)
    return Sample(name, np.asarray(picture.convert("RGB")), pixel_values, labels)


def _size(model: PreTrainedModel, picture: Image.Image, side: int | None) -> tuple[int, int]:
    """(height, width) in pixels to resize a picture to: the model's, or whole patches with `side` as the shorter."""
    if side is None:
        return as_pair(model.config.image_size)
    patch = as_pair(model.config.patch_size)
    if side < max(patch):
        raise UserError(f"--side {side} is smaller than a patch of {patch[0]} x {patch[1]} pixels")
    scale = side / min(picture.size)
    height, width = (max(p, round(s * scale / p) * p) for s, p in zip(picture.size[::-1], patch, strict=True))
    return height, width


def _read_labels(file: Path) -> Tensor:
    """A label map, (H, W) integers."""
    with Image.open(file) as opened:
        if opened.mode not in ("L", "P", "I", "I;16", "1"):
            raise UserError(f"{file} is not a label map: expected one channel, got mode {opened.mode}")
        return torch.from_numpy(np.asarray(opened).astype(np.int64))


__all__ = ["SegmentRequest", "segment_files"]
