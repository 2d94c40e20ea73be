"""The ledger: which samples every optimizer step takes, however many the processes and workers, whatever was killed."""

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from crate_transformers.data import EpochSampler, KeyedBatches
from crate_transformers.errors import UserError

SHARDS = np.cumsum([13, 40, 7, 30, 11])


class Keys(Dataset):
    """Items that are their keys."""

    def __len__(self):
        return 101

    def __getitem__(self, key):
        return key


def ledger(processes, size, epoch=0, start=0, workers=0, drop_last=True, **order):
    """The samples of each step of 24, in the order in which they are taken, from batch `start` of each process on."""
    own = []
    for process in range(processes):
        sampler = EpochSampler(101, 7, **order)
        sampler.set_epoch(epoch)
        batches = KeyedBatches(sampler, size, process, processes, 24, drop_last)
        batches.start = start
        loader = DataLoader(Keys(), batch_sampler=batches, num_workers=workers, collate_fn=list)
        own.append(list(loader)[start:])
        assert len(own[-1]) == len(batches) - start
    together = [key for batch in zip(*own, strict=True) for part in batch for key in part]
    return [together[i : i + 24] for i in range(0, len(together), 24)]


ORDERS = [{}, {"repetitions": 2, "batch": 24}, {"ends": SHARDS, "window": 16}]


@pytest.mark.parametrize("order", ORDERS, ids=["plain", "repeated", "shards"])
@pytest.mark.parametrize(("processes", "batch"), [(1, 24), (1, 6), (2, 12), (2, 6), (4, 6), (4, 3)])
def test_the_same_samples_in_the_same_order(order, processes, batch):
    whole = ledger(1, 24, epoch=3, **order)
    assert ledger(processes, batch, epoch=3, **order) == whole
    for step in range(4):  # killed after each step, resumed with these processes
        start = step * 24 // (processes * batch)
        assert ledger(processes, batch, epoch=3, start=start, **order) == whole[step:]
    flat = [key for step in whole for key in step]
    assert len(set(flat)) == len(flat) == 96
    assert len({key for step in ledger(processes, batch, drop_last=False, **order) for key in step}) == 101


def test_workers_change_nothing():
    assert ledger(2, 12, workers=2, start=1) == ledger(1, 24)[1:]


def test_an_order_of_shards_keeps_neighbours_together():
    ends = np.cumsum([100] * 20)
    sampler = EpochSampler(2000, 3, ends=ends, window=200)
    order = np.array([key[1] for key in sampler])
    assert sorted(order) == list(range(2000))
    for start in range(0, 2000, 200):
        assert len(set(order[start : start + 200] // 100)) <= 3
    assert (np.diff(order) == 1).mean() < 0.05
    sampler.set_epoch(1)
    assert [key[1] for key in sampler] != order.tolist()


def test_a_last_batch_that_is_too_small_for_the_processes_is_refused():
    with pytest.raises(UserError, match="the last batch of an epoch has 1 of 25 samples, fewer than the 2 processes"):
        KeyedBatches(EpochSampler(25, 0), 6, 0, 2, 24, drop_last=False)
