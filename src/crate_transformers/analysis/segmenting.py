"""Segment images with a model: masks of attention and of MaskCut as files, and how good they are.

Shapes: C channels, H x W pixels of the picture, K heads, M objects.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..errors import UserError
from ..files import write_bytes
from ..report.masks import label_png_bytes, legend_figure
from ..report.pictures import overlay, paint_masks, picture_sheet, png_bytes
from ..report.plates import Plate
from ..report.writing import write_arrays
from .architectures import unwrap
from .attention import attention_maps, segmentation_layer
from .features import patch_features
from .maskcut import mask_cut
from .scores import BestHeadIoU, BestMaskIoU, average_precision, objects_of
from .segmentation import attention_masks, resize_masks
from .tracing import eager_attention


@dataclass(frozen=True)
class Sample:
    """A picture to segment.

    Attributes:
        name: of its files. picture: (H, W, 3) uint8, as it is shown. pixel_values: (1, C, h, w), the same whole
            picture as the model wants it. labels: (H, W) integers, the truth, or None.

    Example:
        >>> Sample("cat", np.zeros((40, 60, 3), dtype=np.uint8), torch.zeros(1, 3, 32, 48)).labels is None
        True
    """

    name: str
    picture: np.ndarray
    pixel_values: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class SegmentationSettings:
    """How to segment.

    Attributes:
        layer: from 0, negative from the end; None is the second-to-last.
        fraction: of attention that a mask holds. num_masks, threshold: of MaskCut.

    Example:
        >>> SegmentationSettings(layer=-1, num_masks=5).fraction
        0.6
    """

    layer: int | None = None
    fraction: float = 0.6
    num_masks: int = 3
    threshold: float = 0.15


@dataclass(frozen=True)
class Segmented:
    """Masks of one picture, at its size: by_mass, by_entries (K, H, W) and objects (M, H, W), bool; scores (M,)."""

    by_mass: Tensor
    by_entries: Tensor
    objects: Tensor
    scores: Tensor
    heat: Tensor  # (K, rows, columns), the attention


def segment_sample(model: nn.Module, sample: Sample, settings: SegmentationSettings) -> Segmented:
    """Masks of one picture.

    Raises:
        ValueError: a layer that does not exist; labels whose size is not the picture's; an image smaller than a patch.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> sample = Sample("noise", np.zeros((40, 60, 3), dtype=np.uint8), torch.rand(1, 3, 32, 48))
        >>> segment_sample(model, sample, SegmentationSettings()).by_mass.shape  # a mask a head, at the picture's size
        torch.Size([6, 40, 60])
    """
    size = sample.picture.shape[:2]
    if sample.labels is not None and tuple(sample.labels.shape) != size:
        raise UserError(
            f"the mask of {sample.name} is {tuple(sample.labels.shape)} pixels and its image {size}: they must have "
            "one size (height, width)"
        )
    layer = segmentation_layer(model, settings.layer)
    maps = attention_maps(model, sample.pixel_values, [layer]).maps[0, 0]  # (K, rows, columns)
    features = patch_features(model, sample.pixel_values, layer)
    found = mask_cut(features.features[0], features.grid, settings.num_masks, settings.threshold)
    return Segmented(
        by_mass=resize_masks(attention_masks(maps, settings.fraction, "mass"), size),
        by_entries=resize_masks(attention_masks(maps, settings.fraction, "entries"), size),
        objects=resize_masks(found.masks, size),
        scores=found.scores,
        heat=maps,
    )


class SegmentationScores:
    """Mean IoU of every method, AP of MaskCut, gathered image by image."""

    def __init__(self) -> None:
        self.heads = {"attention_mass": BestHeadIoU(), "attention_entries": BestHeadIoU()}
        self.objects = BestMaskIoU()
        self._found: list[tuple[Tensor, Tensor]] = []
        self._true: list[Tensor] = []

    def update(self, segmented: Segmented, labels: Tensor) -> None:
        self.heads["attention_mass"].update(segmented.by_mass, labels)
        self.heads["attention_entries"].update(segmented.by_entries, labels)
        self.objects.update(segmented.objects, labels)
        self._found.append((segmented.objects, segmented.scores))
        self._true.append(objects_of(labels))

    def result(self) -> dict[str, Any]:
        """{"attention_mass": {"mean_iou": ..., "classes": ...}, "attention_entries": ..., "maskcut": ...}.

        "maskcut" also has "mask" and "box" with AP, AP50 and AP75, where pycocotools is installed; else "note".
        """
        results: dict[str, Any] = {name: score.result() for name, score in self.heads.items()}
        results["maskcut"] = self.objects.result()
        try:
            results["maskcut"].update(average_precision(self._found, self._true))
        except ImportError as error:
            results["maskcut"]["note"] = str(error)
        return results


def label_map(masks: Tensor) -> np.ndarray:
    """Masks (M, H, W) as one (H, W) uint8 map, 0 where there is none and 1 + number of the mask; the first wins."""
    labels = np.zeros(masks.shape[-2:], dtype=np.uint8)
    for number in reversed(range(len(masks))):
        labels[masks[number].numpy()] = number + 1
    return labels


def write_segmented(folder: Path, sample: Sample, segmented: Segmented) -> list[Path]:
    """NAME_maskcut.png, NAME_overlay.png (the objects over the picture) and NAME_masks.npz.

    The first is a label map with a palette, 0 is background. The last holds attention (K, rows, columns), by_mass and
    by_entries (K, H, W), maskcut (M, H, W), maskcut_scores.
    """
    arrays = write_arrays(
        folder / f"{sample.name}_masks.npz",
        attention=segmented.heat.numpy(),
        by_mass=segmented.by_mass.numpy(),
        by_entries=segmented.by_entries.numpy(),
        maskcut=segmented.objects.numpy(),
        maskcut_scores=segmented.scores.numpy(),
    )
    objects = paint_masks(sample.picture, segmented.objects.numpy())
    return [
        write_bytes(folder / f"{sample.name}_maskcut.png", label_png_bytes(label_map(segmented.objects))),
        write_bytes(folder / f"{sample.name}_overlay.png", png_bytes(objects)),
        arrays,
    ]


def heads_plate(sample: Sample, segmented: Segmented, about: str) -> Plate:
    """NAME_heads: every head's map, and its mask, beside the objects."""
    best = [paint_masks(sample.picture, mask[None].numpy()) for mask in segmented.by_mass]
    heats = [overlay(sample.picture, heat.numpy()) for heat in segmented.heat]
    objects = paint_masks(sample.picture, segmented.objects.numpy())
    cells = [[sample.picture, *heats], [objects, *best]]
    return Plate(
        f"{sample.name}_heads",
        picture_sheet(
            cells,
            ["image", *(f"head {head}" for head in range(len(heats)))],
            ["attention", "masks"],
            cell=1.4,
        ),
        f"Above: {sample.name}, and the attention of the class token, head by head, each stretched to its range. "
        f"Below: objects that MaskCut finds in the subspace features ({len(segmented.objects)}), and of each head the "
        f"fewest patches that hold {about}; crate_transformers {__version__}.",
    )


def legend_plate(num_objects: int) -> Plate:
    """legend: what the values and colours of the label maps and overlays stand for."""
    return Plate(
        "legend",
        legend_figure(num_objects),
        "Values of NAME_maskcut.png, with their colours there and in NAME_overlay.png: objects in the order in which "
        f"MaskCut finds them; a seventh would have the first colour again. crate_transformers {__version__}.",
    )


@dataclass
class Segmentation:
    """What `segment` made: files, and the scores where there was a truth."""

    files: list[Path] = field(default_factory=list)
    scores: dict[str, Any] | None = None
    num_images: int = 0


def segment(
    model: nn.Module,
    samples: Iterable[Sample],
    output: str | Path,
    settings: SegmentationSettings | None = None,
    name: str = "model",
    num_figures: int = 12,
    progress: Callable[[Iterable[Sample]], Iterator[Sample]] | None = None,
) -> Segmentation:
    """Segment pictures one by one and write masks, overlays and the legend of their colours; with labels, score them.

    Args:
        model: an image model that `trace_batches` takes. samples: read once, never held.
        output: the folder to write. settings: how. name: of the model, in captions.
        num_figures: a figure of all heads is drawn for the first so many pictures.

    Raises:
        ValueError: as in `segment_sample`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> sample = Sample("noise", np.zeros((40, 60, 3), dtype=np.uint8), torch.rand(1, 3, 32, 48))
        >>> with TemporaryDirectory() as folder:
        ...     result = segment(model, [sample], folder, num_figures=0)
        >>> result.num_images, result.scores
        (1, None)
    """
    settings = settings or SegmentationSettings()
    layer = segmentation_layer(model, settings.layer)
    about = f"{100 * settings.fraction:g} % of its attention. {name}, layer {layer} (from 0)"
    scores, result, most = SegmentationScores(), Segmentation(), 0
    with torch.no_grad(), eager_attention(unwrap(model)):
        for sample in progress(samples) if progress else samples:
            segmented = segment_sample(model, sample, settings)
            result.files += write_segmented(Path(output), sample, segmented)
            if result.num_images < num_figures:
                result.files += heads_plate(sample, segmented, about).write(Path(output))
            result.num_images += 1
            most = max(most, len(segmented.objects))
            if sample.labels is not None:
                scores.update(segmented, sample.labels)
                result.scores = {}
    if result.num_images:
        result.files += legend_plate(most).write(Path(output))
    if result.scores is not None:
        result.scores = scores.result()
    return result


__all__ = [
    "Sample",
    "Segmentation",
    "SegmentationScores",
    "SegmentationSettings",
    "Segmented",
    "heads_plate",
    "label_map",
    "legend_plate",
    "segment",
    "segment_sample",
    "write_segmented",
]
