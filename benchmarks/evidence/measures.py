"""What is measured of a trained classifier, and of the same architecture with untrained weights.

* layers: R^c, R, Delta R, non-zeros and Hoyer's sparseness by layer; how many half-steps do what the theory says
* robustness: accuracy under noise, blur and occlusion at five strengths
* emergence: IoU of attention masks with the object's outline. `best_head`: of each class the head that fits best on the
  scored images (as the papers do); `other_images`: the head is chosen on one half of the images and scored on the
  other, both ways; MaskCut; masks at random
* probes: few labels

Shapes: B images, L layers, K heads, H x W pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from transformers import AutoModel, AutoModelForImageClassification

from crate_transformers.analysis import (
    BestMaskIoU,
    attention_maps,
    attention_masks,
    iou,
    mask_cut,
    measure_half_steps,
    measure_layers,
    patch_features,
    resize_masks,
)
from crate_transformers.evaluation.corruptions import corruption_metrics

STRENGTHS = (1, 2, 3, 4, 5)
READINGS = ("mass", "entries")
SHARE = 0.6
COLUMNS = ("coding_rate", "rate", "rate_reduction", "nonzero_fraction", "hoyer_sparsity")


def untrained(model: Any, seed: int) -> Any:
    """The same architecture with new weights."""
    torch.manual_seed(seed)
    auto = AutoModelForImageClassification if "Classification" in type(model).__name__ else AutoModel
    return auto.from_config(model.config).eval().to(model.device)


# -- layers -----------------------------------------------------------------------------------------------------------


def of_layers(model: Any, images: Tensor) -> dict[str, Any]:
    """Measures by layer (official mode), and in both modes whether each half-step does its part."""
    measures = measure_layers(model, images, batch_size=128)
    found: dict[str, Any] = {name: list(getattr(measures, f"{name}_mean")) for name in COLUMNS}
    found["coding_rate_of"] = measures.coding_rate_of[0]
    for mode in ("official", "paper"):
        ladder = measure_half_steps(model, images, mode=mode, batch_size=128)
        found[f"compresses_{mode}"], found[f"sparsifies_{mode}"] = list(ladder.compresses), list(ladder.sparsifies)
    return found


# -- robustness -------------------------------------------------------------------------------------------------------


def _noise(images: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    return images + 0.1 * strength * torch.randn(images.shape, generator=generator)


def _blur(images: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    return F.gaussian_blur(images, [9, 9], [0.4 * strength] * 2) if min(images.shape[-2:]) > 5 else images


def _occlusion(images: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """A black square whose side is a tenth of the picture's times the strength, at a random place."""
    height, width = images.shape[-2:]
    side = max(1, round(0.1 * strength * height))
    images = images.clone()
    for image in images:
        top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in (height, width))
        image[:, top : top + side, left : left + side] = 0
    return images


CORRUPTIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "occlusion": _occlusion,
}


@torch.no_grad()
def of_robustness(model: Any, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor) -> dict[str, Any]:
    """Accuracies on pictures that are hurt: in pixels of [0, 1], before the model's normalisation.

    Args:
        images: (B, C, H, W), normalised. mean, std: (1, C, 1, 1), with which they were.
    """
    plain, accuracies = images * std + mean, {}
    for name, hurt in CORRUPTIONS.items():
        for strength in STRENGTHS:
            generator = torch.Generator().manual_seed(strength)
            values = (hurt(plain, strength, generator).clamp(0, 1) - mean) / std
            right = [
                (model(batch.to(model.device)).logits.argmax(-1).cpu() == truth).float()
                for batch, truth in zip(values.split(500), labels.split(500), strict=True)
            ]
            accuracies[name, strength] = torch.cat(right).mean().item()
    found = corruption_metrics(accuracies)
    return {"accuracy": found["accuracy"], **{k: v["by_severity"] for k, v in found["corruptions"].items()}}


# -- emergence --------------------------------------------------------------------------------------------------------


def head_scores(masks: Tensor, maps: Tensor) -> Tensor:
    """IoU (B, heads) of masks (B, heads, rows, columns) with the one object of each label map (B, H, W)."""
    size = tuple(maps.shape[-2:])
    return torch.stack(
        [iou(resize_masks(own, size), (truth > 0)[None]) for own, truth in zip(masks, maps, strict=True)]
    )


def best_head(scores: Tensor, classes: Tensor) -> float:
    """Mean over classes of the mean IoU of the head that fits a class best: `BestHeadIoU`, of a table of scores."""
    return float(np.mean([scores[classes == label].mean(0).max().item() for label in classes.unique()]))


def head_of_others(scores: Tensor, classes: Tensor) -> float:
    """The same, with the head of a class chosen on one half of its images and scored on the other, both ways."""
    found = []
    for label in classes.unique():
        own = scores[classes == label]
        if len(own) < 2:
            continue
        halves = own[0::2], own[1::2]
        for chosen_on, scored_on in (halves, halves[::-1]):
            found.append(scored_on.mean(0)[chosen_on.mean(0).argmax()].item())
    return float(np.mean(found))


def of_masks(maps: Tensor, truths: Tensor) -> dict[str, Any]:
    """Scores of maps (B, L, K, rows, columns) with outlines (B, H, W), by reading and layer, and over all layers."""
    classes, found = truths.flatten(1).amax(1), {}
    for reading in READINGS:
        scores = [
            head_scores(attention_masks(maps[:, layer], SHARE, reading), truths) for layer in range(maps.shape[1])
        ]
        found[reading] = {
            "best_head": [best_head(own, classes) for own in scores],
            "other_images": [head_of_others(own, classes) for own in scores],
            "other_images_any_layer": head_of_others(torch.cat(scores, dim=1), classes),
        }
    return found


def of_emergence(model: Any, images: Tensor, truths: Tensor, maskcut: int) -> dict[str, Any]:
    """Attention masks and MaskCut of pictures with one object each.

    Args:
        truths: (B, H, W), 0 background, 1 + class. maskcut: how many of the pictures are cut.
    """
    maps = attention_maps(model, images, batch_size=100).maps
    found = of_masks(maps, truths)
    features = patch_features(model, images[:maskcut])
    score = BestMaskIoU()
    for own, labels in zip(features.features, truths, strict=False):
        score.update(resize_masks(mask_cut(own, features.grid).masks, tuple(labels.shape)), labels)
    return {**found, "maskcut": score.result()["mean_iou"]}


def of_chance(truths: Tensor, layers: int, heads: int, grid: tuple[int, int], seed: int = 0) -> dict[str, Any]:
    """Scores of maps drawn at random, as many as a model has, and of the whole picture as the mask."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(len(truths), layers, heads, *grid, generator=generator)
    whole = torch.ones(len(truths), 1, *grid, dtype=torch.bool)
    return {**of_masks(maps, truths), "whole_image": best_head(head_scores(whole, truths), truths.flatten(1).amax(1))}


__all__ = [
    "COLUMNS",
    "READINGS",
    "STRENGTHS",
    "best_head",
    "head_of_others",
    "head_scores",
    "of_chance",
    "of_emergence",
    "of_layers",
    "of_masks",
    "of_robustness",
    "untrained",
]
