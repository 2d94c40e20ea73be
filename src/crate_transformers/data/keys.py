"""Keys (epoch, sample): what makes every item of a data set a function of (seed, epoch, sample).

Augmentation is never drawn from a global generator: loaders prefetch, so a saved global state is already ahead, and an
exact resume, or two processes that equal one, would be lost. The sampler hands out keys (epoch, sample) instead of
plain indices, and an item seeds its own random numbers with (seed, epoch, sample).
"""

import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Sampler

Key = tuple[int, ...]  # (epoch, sample); of a sample that an epoch repeats also the 2nd, 3rd, ...: (epoch, sample, 2)


def key_of(item: Key | int) -> Key:
    """The key of an item that is asked for by its key or, as an evaluation does, by its place: that is of epoch 0."""
    return item if isinstance(item, tuple) else (0, item)


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


@contextmanager
def generators_of_others() -> Iterator[None]:
    """Within, Python's and numpy's global generators follow torch's; afterwards they are as they were.

    For libraries that draw from them. torch's own generator goes on by one number.
    """
    seed = int(torch.randint(2**32, ()))
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (the one that they use)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


class EpochSampler(Sampler[Key]):
    """Keys (epoch, sample) in an order that is a function of (seed, epoch).

    With repetitions an epoch has as many keys as before, of fewer samples, each of which comes that many times under
    other keys, so with another augmentation. All of them are in one batch, evenly apart: processes take equal parts of
    a batch, so where they are as many as the repetitions or more, no process sees a sample twice in a step. Neighbours
    are of different samples, where a batch has two.

    Source: arXiv 1901.09335 (batch augmentation), as in the training of DeiT, arXiv 2012.12877.

    Args:
        num_samples: how many samples there are, and keys in an epoch.
        repetitions: how often an epoch has a sample; the last one may come less often.
        batch: keys that all processes take together; read where there are repetitions.

    Example:
        >>> [(key[1], *key[2:]) for key in EpochSampler(6, seed=0, repetitions=3, batch=6)]
        [(1,), (3,), (1, 2), (3, 2), (1, 3), (3, 3)]
    """

    def __init__(self, num_samples: int, seed: int, repetitions: int = 1, batch: int = 1):
        self.num_samples, self.seed, self.epoch = num_samples, seed, 0
        self.repetitions, self.batch = repetitions, batch

    def set_epoch(self, epoch: int) -> None:
        """Give out the keys of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(_seed_of(self.seed, self.epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        first: list[Key] = [(self.epoch, index) for index in order]
        return iter(first if self.repetitions == 1 else self._repeated(first))

    def _repeated(self, first: list[Key]) -> Iterator[Key]:
        again: list[Key] = [(), *((time,) for time in range(2, self.repetitions + 1))]
        chosen = first[: math.ceil(self.num_samples / self.repetitions)]
        keys = [(*key, *time) for key in chosen for time in again][: self.num_samples]
        for start in range(0, len(keys), self.batch):
            block = keys[start : start + self.batch]
            for offset in range(self.repetitions):
                yield from block[offset :: self.repetitions]


__all__ = ["EpochSampler", "Key", "generators_of_others", "key_of", "keyed_generator"]
