"""Keys (epoch, sample): what makes every item of a data set a function of (seed, epoch, sample).

Augmentation is never drawn from a global generator: loaders prefetch, so a saved global state is already ahead, and an
exact resume, or two processes that equal one, would be lost. The sampler hands out keys (epoch, sample) instead of
plain indices, and an item seeds its own random numbers with (seed, epoch, sample).
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import Sampler

WINDOW = 4096  # samples of shards that are permuted together
_AT_ONCE = 1024  # keys that are made together
_ORDERS = 4  # permutations that are remembered

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
    """Keys (epoch, sample) in an order that is a function of (seed, epoch); any place of it is found by itself.

    The order is one permutation of all samples. Of samples in shards it is made so that neighbours lie in few shards:
    the shards are permuted, laid end to end, and the samples within each window of that sequence are permuted.

    With repetitions an epoch has as many keys as before, of fewer samples, each of which comes that many times under
    other keys, so with another augmentation. All of them are in one batch, evenly apart: processes take equal parts of
    a batch, so where they are as many as the repetitions or more, no process sees a sample twice in a step. Neighbours
    are of different samples, where a batch has two.

    Source: arXiv 1901.09335 (batch augmentation), as in the training of DeiT, arXiv 2012.12877.

    Args:
        num_samples: how many samples there are, and keys in an epoch.
        repetitions: how often an epoch has a sample; the last one may come less often.
        batch: keys that all processes take together; read where there are repetitions.
        ends: (shards,) int, where the samples of each shard end; None where they are in no shards.
        window: samples of a window; read where there are shards.

    Example:
        >>> [(key[1], *key[2:]) for key in EpochSampler(6, seed=0, repetitions=3, batch=6)]
        [(1,), (3,), (1, 2), (3, 2), (1, 3), (3, 3)]
        >>> EpochSampler(1000, seed=0).keys(998, 1000)
        [(0, 559), (0, 615)]
    """

    def __init__(
        self,
        num_samples: int,
        seed: int,
        repetitions: int = 1,
        batch: int = 1,
        ends: np.ndarray | None = None,
        window: int = WINDOW,
    ):
        self.num_samples, self.seed, self.epoch = num_samples, seed, 0
        self.repetitions, self.batch = repetitions, batch
        self.ends, self.window = ends, window
        self._orders: dict[tuple[int, ...], np.ndarray] = {}  # the latest, by (epoch,) or (epoch, window)

    def set_epoch(self, epoch: int) -> None:
        """Give out the keys of this epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[Key]:
        for start in range(0, self.num_samples, _AT_ONCE):
            yield from self.keys(start, min(start + _AT_ONCE, self.num_samples))

    def keys(self, start: int, stop: int) -> list[Key]:
        """The keys from one place of the epoch to another."""
        places = np.arange(start, stop)
        if self.repetitions == 1:
            return [(self.epoch, index) for index in self._samples(places).tolist()]
        within = self._within_batches(places)
        samples = self._samples(within // self.repetitions).tolist()
        times = (within % self.repetitions).tolist()
        return [
            (self.epoch, sample, time + 1) if time else (self.epoch, sample)
            for sample, time in zip(samples, times, strict=True)
        ]

    def _within_batches(self, places: np.ndarray) -> np.ndarray:
        """The place of each key in the sequence that has all repetitions of a sample after each other."""
        found = np.empty_like(places)
        for batch in np.unique(places // self.batch).tolist():
            first = batch * self.batch
            length = min(self.batch, self.num_samples - first)
            spread = np.concatenate([np.arange(offset, length, self.repetitions) for offset in range(self.repetitions)])
            own = places // self.batch == batch
            found[own] = first + spread[places[own] - first]
        return found

    def _samples(self, places: np.ndarray) -> np.ndarray:
        """The sample at each place of the order without repetitions."""
        if self.ends is None:
            return self._order((self.epoch,), self.num_samples)[places]
        windows, found = places // self.window, np.empty_like(places)
        for number in np.unique(windows).tolist():
            first, own = number * self.window, windows == number
            length = min(self.window, self.num_samples - first)
            found[own] = first + self._order((self.epoch, number), length)[places[own] - first]
        starts = np.concatenate([[0], self.ends[:-1]])
        shards = self._order((self.epoch, -1), len(self.ends))
        laid = np.cumsum((self.ends - starts)[shards])  # where each ends, laid end to end
        which = np.searchsorted(laid, found, side="right")
        return starts[shards[which]] + found - (laid[which] - (self.ends - starts)[shards[which]])

    def _order(self, numbers: tuple[int, ...], length: int) -> np.ndarray:
        """(length,) int64, a permutation that is a function of the seed and the numbers."""
        if numbers not in self._orders:
            if len(self._orders) >= _ORDERS:
                self._orders.clear()
            generator = torch.Generator().manual_seed(_seed_of(self.seed, *numbers))
            self._orders[numbers] = torch.randperm(length, generator=generator).numpy()
        return self._orders[numbers]


__all__ = ["WINDOW", "EpochSampler", "Key", "generators_of_others", "key_of", "keyed_generator"]
