"""Images with the noise that decides which of their patches are hidden: a function of (seed, epoch, sample)."""

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..keys import Key, keyed_generator
from .keyed import KeyedImages

_NOISE = 1  # makes these random numbers others than those that augmented the picture; repetitions count from 2


class MaskedImages(Dataset):
    """Items {"pixel_values" (C, H, W), "noise" (N,)} of keyed images.

    Args:
        images: the pictures. num_patches: N. seed: of the noise.

    A plain index in place of a key has the noise of epoch 0, so that an evaluation hides the same patches every time.
    """

    def __init__(self, images: KeyedImages, num_patches: int, seed: int = 0):
        self.images, self.num_patches, self.seed = images, num_patches, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key | int) -> dict[str, Tensor]:
        item = self.images[key]
        with keyed_generator(self.seed, *item["key"], _NOISE):
            noise = torch.rand(self.num_patches)
        return {"pixel_values": item["pixel_values"], "noise": noise}


def stack_items(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items of tensors to a batch, name by name."""
    return {
        name: default_collate([item[name] for item in items]) for name in items[0]
    }  # in a worker, into shared memory


__all__ = ["MaskedImages", "stack_items"]
