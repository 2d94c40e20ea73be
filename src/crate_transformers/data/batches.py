"""What one process of several takes of every step: batches of keys, found by their number, whatever came before."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from ..errors import UserError
from .keys import EpochSampler, Key


class KeyedBatches(Sampler[list[Key]]):
    """The batches of one process: of every `processes` times `batch_size` keys in the order of the epoch, its part.

    All processes together take the keys in the order of the sampler, so that what a step sees does not depend on their
    number. The last keys of an epoch are left out where they fill no `unit` (`drop_last`), else divided evenly.

    Args:
        sampler: gives the order. batch_size: keys of a batch. process, processes: which one of how many.
        unit: keys that come whole or not at all where `drop_last`: those of a step, or of a batch of all processes.

    Attributes:
        start: the number of the first batch that is made. The ones before come as empty lists: accelerate, which skips
            what a resumed run has seen, drops them without a look.

    Raises:
        UserError: the last keys of an epoch are fewer than the processes.

    Example:
        >>> sampler = EpochSampler(10, seed=0)
        >>> first, second = (list(KeyedBatches(sampler, 2, process, 2, unit=4, drop_last=False)) for process in (0, 1))
        >>> [len(batch) for batch in first], first[0] + second[0] == list(sampler)[:4]
        ([2, 2, 1], True)
    """

    def __init__(
        self, sampler: EpochSampler, batch_size: int, process: int, processes: int, unit: int, drop_last: bool
    ):
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last
        self.process, self.processes, self.start = process, processes, 0
        together = batch_size * processes
        self.used = len(sampler) // unit * unit if drop_last else len(sampler)
        rest = self.used % together
        if 0 < rest < processes:
            raise UserError(
                f"the last batch of an epoch has {rest} of {len(sampler)} samples, fewer than the {processes} "
                "processes: set train.dataloader_drop_last=true, or another batch"
            )

    def __len__(self) -> int:
        return -(-self.used // (self.batch_size * self.processes))

    def batch(self, number: int) -> list[Key]:
        """The keys of this process in a batch."""
        together = self.batch_size * self.processes
        first = number * together
        count = min(together, self.used - first)
        edges = [int(part) for part in np.cumsum([0, *map(len, np.array_split(np.arange(count), self.processes))])]
        return self.sampler.keys(first + edges[self.process], first + edges[self.process + 1])

    def __iter__(self) -> Iterator[list[Key]]:
        for number in range(len(self)):
            yield self.batch(number) if number >= self.start else []


__all__ = ["KeyedBatches"]
