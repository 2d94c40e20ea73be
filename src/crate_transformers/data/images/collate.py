"""From items to a batch, with MixUp and CutMix as functions of (seed, epoch, sample).

Neighbours in a batch are mixed with each other, pair by pair. The order of samples is random already, so this is as
good as any pairing, and it is the same whether one process holds the batch or two hold half of it each. Published
recipes draw one share for all pictures of a batch of a process instead; that depends on how many processes there are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import default_collate
from torchvision.transforms import v2

from ..keys import Key, keyed_generator


class ImageCollator:
    """Items of KeyedImages to {"pixel_values" (B, C, H, W), "labels" (B,) or, when mixed, (B, classes) float}.

    Args:
        num_classes: width of mixed labels.
        mixup_alpha, cutmix_alpha: of the two Beta distributions; 0 turns one off. Where both are on, each pair draws
            one of them.
        seed: of the mixing.
        mode: "pair", every two neighbours draw their own share; "batch", one share, each picture mixed with the one
            before it.
    """

    def __init__(
        self,
        num_classes: int = 0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        seed: int = 0,
        mode: str = "pair",
    ):
        self.num_classes, self.seed, self.mode = num_classes, seed, mode
        self.mixers: list[v2.MixUp | v2.CutMix] = []
        if mixup_alpha > 0:
            self.mixers.append(v2.MixUp(alpha=mixup_alpha, num_classes=num_classes))
        if cutmix_alpha > 0:
            self.mixers.append(v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes))

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        pixel_values = default_collate([item["pixel_values"] for item in items])  # in a worker, into shared memory
        labels = torch.tensor([item["labels"] for item in items])
        if self.mixers:
            pixel_values, labels = self._mix(pixel_values, labels, [item["key"] for item in items])
        return {"pixel_values": pixel_values, "labels": labels}

    def _mix(self, pixel_values: Tensor, labels: Tensor, keys: list[Key]) -> tuple[Tensor, Tensor]:
        mixed = one_hot(labels, self.num_classes).float()
        together = len(keys) if self.mode == "batch" else 2
        for first in range(0, len(keys) - 1, together):
            part = slice(first, first + together)
            with keyed_generator(self.seed, *keys[first]):
                mixer = self.mixers[int(torch.randint(len(self.mixers), ()))]
                pixel_values[part], mixed[part] = mixer(pixel_values[part], labels[part])
        return pixel_values, mixed


__all__ = ["ImageCollator"]
