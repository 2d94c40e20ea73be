"""Labelled images under a transform, whose random numbers are a function of (seed, epoch, sample)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ..keys import Key, key_of, keyed_generator
from .labelled import LabelledImages


class KeyedImages(Dataset):
    """Items {"pixel_values", "labels", "key"} of labelled images under a transform.

    Args:
        images: where they come from. transform: picture -> (C, H, W); one with `takes_pixels` is given (C, H, W) uint8.
        num_channels: 1 or 3. seed: of the transform.
    """

    def __init__(
        self, images: LabelledImages, transform: Callable[[Any], Tensor], num_channels: int = 3, seed: int = 0
    ):
        self.images, self.transform, self.num_channels, self.seed = images, transform, num_channels, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        key = key_of(key)
        index = key[1]
        read = self.images.pixels if getattr(self.transform, "takes_pixels", False) else self.images.read
        picture = read(index, self.num_channels)
        with keyed_generator(self.seed, *key):
            pixel_values = self.transform(picture)
        return {"pixel_values": pixel_values, "labels": int(self.images.labels[index]), "key": key}


__all__ = ["KeyedImages"]
