"""Data sets whose items are functions of (seed, epoch, sample).

Augmentation is never drawn from a global generator: loaders prefetch, so a saved global state is already ahead, and an
exact resume, or two processes that equal one, would be lost. The sampler hands out keys (epoch, sample) instead of
plain indices, and an item seeds its own random numbers with (seed, epoch, sample).
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .sources import LabelledImages

Key = tuple[int, int]  # (epoch, sample)


def _seed_of(*numbers: int) -> int:
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def keyed_generator(*numbers: int) -> Iterator[None]:
    """Within, torch's global CPU generator is a function of the numbers; afterwards it is as it was."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(_seed_of(*numbers))  # torch.manual_seed would queue a call for every GPU too
    try:
        yield
    finally:
        torch.set_rng_state(state)


class EpochSampler(Sampler[Key]):
    """Keys (epoch, sample) in an order that is a function of (seed, epoch)."""

    def __init__(self, num_samples: int, seed: int):
        self.num_samples, self.seed, self.epoch = num_samples, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(_seed_of(self.seed, self.epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        return iter([(self.epoch, index) for index in order])


class KeyedImages(Dataset):
    """Items {"pixel_values", "labels", "key"} of labelled images under a transform.

    Args:
        images: where they come from. transform: picture -> (C, H, W). num_channels: 1 or 3. seed: of the transform.
    """

    def __init__(
        self, images: LabelledImages, transform: Callable[[Any], Tensor], num_channels: int = 3, seed: int = 0
    ):
        self.images, self.transform, self.num_channels, self.seed = images, transform, num_channels, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        picture = self.images.read(index, self.num_channels)
        with keyed_generator(self.seed, epoch, index):
            pixel_values = self.transform(picture)
        return {"pixel_values": pixel_values, "labels": int(self.images.labels[index]), "key": (epoch, index)}


__all__ = ["EpochSampler", "Key", "KeyedImages", "keyed_generator"]
