"""How good masks are: intersection over union, and average precision.

Shapes: M predicted masks, G true masks, K heads, H x W pixels.
"""

import contextlib
import io
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingPackageError, UserError

BACKGROUND, IGNORED = 0, 255


def iou(predicted: Tensor, truth: Tensor, counted: Tensor | None = None) -> Tensor:
    """Intersection over union of masks: |A and B| / |A or B|; 1 where both are empty.

    Args:
        predicted, truth: (..., H, W) bool, broadcastable. counted: (H, W) bool, pixels that count; None is all.

    Returns:
        (...) float64.

    Raises:
        ValueError: masks of different sizes.

    Example:
        >>> iou(torch.tensor([[True, True]]), torch.tensor([[True, False]])).item()
        0.5
    """
    if predicted.shape[-2:] != truth.shape[-2:]:
        raise UserError(
            f"masks have different sizes: predicted {tuple(predicted.shape[-2:])}, true {tuple(truth.shape[-2:])}"
        )
    both, either = predicted & truth, predicted | truth
    if counted is not None:
        both, either = both & counted, either & counted
    union = either.sum(dim=(-2, -1)).double()
    return torch.where(union == 0, 1.0, both.sum(dim=(-2, -1)) / union.clamp(min=1))


class BestHeadIoU:
    """Mean IoU as the papers take it: for each class the head that fits it best, then the mean over classes.

    `update` with every image; per-head IoU is averaged over the images that show the class before the best is chosen.

    Example:
        >>> scores, labels = BestHeadIoU(), torch.tensor([[1, 0]])
        >>> scores.update(torch.tensor([[[True, True]], [[True, False]]]), labels)
        >>> scores.result()
        {'mean_iou': 1.0, 'classes': {1: {'best_head': 1, 'iou': 1.0, 'images': 1}}}

    Source: arXiv 2308.16271, appendix on evaluation of the attention maps.
    """

    def __init__(self) -> None:
        self._sum: dict[int, Tensor] = {}
        self._count: dict[int, int] = {}

    def update(self, masks: Tensor, labels: Tensor) -> None:
        """Take in one image: masks (K, H, W) bool; labels (H, W) integers, 0 background, 255 left out."""
        counted = labels != IGNORED
        for value in labels.unique().tolist():
            if value not in (BACKGROUND, IGNORED):
                found = iou(masks, (labels == value)[None], counted)
                self._sum[value] = self._sum.get(value, torch.zeros_like(found)) + found
                self._count[value] = self._count.get(value, 0) + 1

    def result(self) -> dict[str, object]:
        """`mean_iou` over classes (nan without one); per class the `best_head` and its `iou`."""
        classes = {}
        for value in sorted(self._sum):
            mean = self._sum[value] / self._count[value]
            classes[value] = {"best_head": int(mean.argmax()), "iou": float(mean.max()), "images": self._count[value]}
        values = [entry["iou"] for entry in classes.values()]
        return {"mean_iou": float(np.mean(values)) if values else float("nan"), "classes": classes}


class BestMaskIoU:
    """Mean IoU of unordered objects: per image and class the mask that fits best, then means.

    Example:
        >>> scores, labels = BestMaskIoU(), torch.tensor([[1, 0]])
        >>> scores.update(torch.tensor([[[True, True]]]), labels)
        >>> scores.result()
        {'mean_iou': 0.5, 'classes': {1: {'iou': 0.5, 'images': 1}}}
    """

    def __init__(self) -> None:
        self._found: dict[int, list[float]] = {}

    def update(self, masks: Tensor, labels: Tensor) -> None:
        """Take in one image: masks (M, H, W) bool, M may be 0; labels (H, W) as in `BestHeadIoU`."""
        counted = labels != IGNORED
        for value in labels.unique().tolist():
            if value not in (BACKGROUND, IGNORED):
                best = float(iou(masks, (labels == value)[None], counted).max()) if len(masks) else 0.0
                self._found.setdefault(value, []).append(best)

    def result(self) -> dict[str, object]:
        """`mean_iou` over classes, and per class."""
        classes = {value: {"iou": float(np.mean(v)), "images": len(v)} for value, v in sorted(self._found.items())}
        values = [entry["iou"] for entry in classes.values()]
        return {"mean_iou": float(np.mean(values)) if values else float("nan"), "classes": classes}


def average_precision(
    predictions: Iterable[tuple[Tensor, Tensor]], truths: Iterable[Tensor]
) -> dict[str, dict[str, float]]:
    """Class-agnostic AP of masks and of their boxes, by COCO's own code.

    Args:
        predictions: per image, masks (M, H, W) bool and scores (M,). truths: per image, objects (G, H, W) bool.

    Returns:
        {"mask": {"AP": ..., "AP50": ..., "AP75": ...}, "box": {...}}, in [0, 1]; -1 where there is no true object.

    Raises:
        ImportError: without pycocotools (the extra `coco`). ValueError: masks of different sizes.

    Example:
        >>> ap = average_precision([(torch.ones(1, 9, 9) > 0, torch.ones(1))], [torch.ones(1, 9, 9) > 0])["mask"]["AP"]
    """
    try:
        from pycocotools import mask as coding
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingPackageError(
            "average precision needs pycocotools: pip install 'crate-transformers[coco]'"
        ) from error

    images: list[dict] = []
    objects: list[dict] = []
    found: list[dict] = []
    for number, ((masks, scores), truth) in enumerate(zip(predictions, truths, strict=True), start=1):
        if len(masks) and masks.shape[-2:] != truth.shape[-2:]:
            raise UserError(
                f"image {number}: predicted masks are {tuple(masks.shape[-2:])}, true ones {tuple(truth.shape[-2:])}"
            )
        images.append({"id": number, "height": truth.shape[-2], "width": truth.shape[-1]})
        for mask in truth:
            objects.append({**_annotation(coding, mask, number), "id": len(objects) + 1, "iscrowd": 0})
        for mask, score in zip(masks, scores.tolist(), strict=True):
            if mask.any():
                found.append({**_annotation(coding, mask, number), "id": len(found) + 1, "score": score})
    nothing = {"AP": -1.0, "AP50": -1.0, "AP75": -1.0}
    if not objects:
        return {"mask": dict(nothing), "box": dict(nothing)}
    if not found:
        return {kind: dict.fromkeys(nothing, 0.0) for kind in ("mask", "box")}
    results = {}
    with contextlib.redirect_stdout(io.StringIO()):  # that code prints
        truth_set, found_set = COCO(), COCO()
        for coco, annotations in ((truth_set, objects), (found_set, found)):
            coco.dataset = {"info": {}, "images": images, "categories": [{"id": 1}], "annotations": annotations}
            coco.createIndex()
        for kind, name in (("segm", "mask"), ("bbox", "box")):
            evaluation = COCOeval(truth_set, found_set, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            ap, ap50, ap75 = (float(value) for value in evaluation.stats[:3])
            results[name] = {"AP": ap, "AP50": ap50, "AP75": ap75}
    return results


def _annotation(coding, mask: Tensor, image: int) -> dict:
    encoded = coding.encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    box, area = coding.toBbox(encoded).tolist(), float(coding.area(encoded))
    return {"image_id": image, "category_id": 1, "segmentation": encoded, "bbox": box, "area": area}


def objects_of(labels: Tensor) -> Tensor:
    """True objects (G, H, W) of a label map (H, W): every value but 0 and 255 is one.

    Example:
        >>> objects_of(torch.tensor([[0, 1], [2, 255]])).int().tolist()
        [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]
    """
    values = [value for value in labels.unique().tolist() if value not in (BACKGROUND, IGNORED)]
    return torch.stack([labels == value for value in values]) if values else labels.new_zeros((0, *labels.shape)).bool()


__all__ = ["BestHeadIoU", "BestMaskIoU", "average_precision", "iou", "objects_of"]
