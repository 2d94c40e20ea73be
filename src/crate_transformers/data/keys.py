"""Keys (epoch, sample): what makes every item of a data set a function of (seed, epoch, sample).

Augmentation is never drawn from a global generator: loaders prefetch, so a saved global state is already ahead, and an
exact resume, or two processes that equal one, would be lost. The sampler hands out keys (epoch, sample) instead of
plain indices, and an item seeds its own random numbers with (seed, epoch, sample).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.data import Sampler

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
        """Give out the keys of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(_seed_of(self.seed, self.epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        return iter([(self.epoch, index) for index in order])


__all__ = ["EpochSampler", "Key", "keyed_generator"]
