"""The ledger: the sample numbers of every optimizer step, over processes, workers, kills and resumes.

    python benchmarks/ledger.py --output benchmarks/results/ledger.json

For 1, 2 and 4 processes, 0 and 2 loader workers, and three orders (one permutation, repeated augmentation, shards in
windows): the loaders of a run take 40 steps of a global batch of 24, two epochs, each process in a process of its own.
After each of the first 20 steps they are killed by SIGKILL, with what they have fetched ahead, and the run goes on with
another number of processes and of workers. Every ledger must be that of one process which was never stopped.
"""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Dataset

from crate_transformers.data import EpochSampler, KeyedBatches

SAMPLES, BATCH, STEPS, KILLS = 501, 24, 40, 20
PER_EPOCH = SAMPLES // BATCH
ORDERS: dict[str, dict[str, Any]] = {
    "permutation": {},
    "repeated augmentation": {"repetitions": 3, "batch": BATCH},
    "shards": {"ends": np.cumsum([100, 37, 164, 200]), "window": 64},
}
LAYOUTS = [(1, 24), (2, 6), (4, 6)]  # (processes, samples of each at a time)


class Keys(Dataset):
    """Items that are their keys."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, key: tuple[int, ...]) -> list[int]:
        return list(key)


def take(folder: Path, order: str, layout: tuple[int, int], process: int, workers: int, first: int, last: int) -> None:
    """Take the steps from `first` on, noting each; after the one before `last` be killed, unless it is the end."""
    processes, size = layout
    accumulation = BATCH // processes // size
    with (folder / f"{first}-{process}.jsonl").open("w") as file:
        for epoch in range(first // PER_EPOCH, -(-last // PER_EPOCH)):
            sampler = EpochSampler(SAMPLES, 7, **ORDERS[order])
            sampler.set_epoch(epoch)
            batches = KeyedBatches(sampler, size, process, processes, BATCH, True)
            done = max(first - epoch * PER_EPOCH, 0)
            batches.start = done * accumulation
            loader = DataLoader(Keys(), batch_sampler=batches, num_workers=workers, collate_fn=list)
            prepared = prepare_data_loader(loader, torch.device("cpu"), num_processes=1, process_index=0)
            prepared.set_epoch(epoch)
            fetched = iter(skip_first_batches(prepared, batches.start))
            for step in range(epoch * PER_EPOCH + done, min((epoch + 1) * PER_EPOCH, last)):
                parts = [next(fetched) for _ in range(accumulation)]
                file.write(json.dumps([step, parts]) + "\n")
                file.flush()
    if last < STEPS:
        os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, order: str, legs: list[tuple[tuple[int, int], int, int, int]]) -> list[list[list[int]]]:
    """The samples of each step of a run in legs of (layout, workers, first step, one behind the last)."""
    context = multiprocessing.get_context("fork")
    ledger: list[list[list[int]]] = []
    for layout, workers, first, last in legs:
        ranks = range(layout[0])
        started = [context.Process(target=take, args=(folder, order, layout, r, workers, first, last)) for r in ranks]
        for process in started:
            process.start()
        for process in started:
            process.join()
            assert process.exitcode == (-signal.SIGKILL if last < STEPS else 0), process.exitcode
        lines = [(folder / f"{first}-{rank}.jsonl").read_text().splitlines() for rank in ranks]
        for own in zip(*lines, strict=True):
            steps, parts = zip(*map(json.loads, own), strict=True)
            assert set(steps) == {len(ledger)}
            ledger.append([key for times in zip(*parts, strict=True) for part in times for key in part])
    return ledger


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--order", choices=list(ORDERS), action="append", help="these alone; may be given again")
    options = parser.parse_args()
    began, runs = time.perf_counter(), 0
    orders = options.order or list(ORDERS)
    for order in orders:
        with tempfile.TemporaryDirectory() as folder:
            whole = run(Path(folder), order, [((1, BATCH), 0, 0, STEPS)])
        flat = [[tuple(key) for step in whole[:PER_EPOCH] for key in step], [tuple(k) for k in whole[PER_EPOCH]]]
        assert len(set(flat[0])) == len(flat[0]) == PER_EPOCH * BATCH  # none twice; what fills no step is left out
        assert {key[0] for key in flat[1]} == {1}
        for number, layout in enumerate(LAYOUTS):
            for workers in (0, 2):
                for kill in range(1, KILLS + 1):
                    other = LAYOUTS[(number + 1 + kill % 2) % len(LAYOUTS)]
                    with tempfile.TemporaryDirectory() as folder:
                        legs = [(layout, workers, 0, kill), (other, 2 - workers, kill, STEPS)]
                        assert run(Path(folder), order, legs) == whole, (order, layout, workers, kill)
                    runs += 1
        print(f"{order}: {runs} runs so far, every ledger equal", flush=True)
    results = {
        "samples": SAMPLES, "global_batch": BATCH, "steps": STEPS, "kills_after_steps": [1, KILLS],
        "processes": [processes for processes, _ in LAYOUTS], "workers": [0, 2], "orders": orders,
        "runs_killed_and_resumed_elsewhere": runs, "ledgers_that_differ": 0,
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
