"""The loader of a run whose order of samples is a function of (seed, epoch), the same for every number of processes."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader
from transformers import Trainer

from ..data import EpochSampler, KeyedBatches
from ..errors import UserError


@dataclass(frozen=True)
class SampleOrder:
    """The order of the training samples.

    Attributes:
        keyed: whether the training set takes keys (epoch, sample); then the order is a function of (seed, epoch).
        repetitions: how often an epoch has a sample.
        ends: (shards,) int64, where the samples of each shard end; None where they are in no shards.
        whole_steps: whether samples are counted by steps, so that they do not depend on the size of a batch.
    """

    keyed: bool = True
    repetitions: int = 1
    ends: np.ndarray | None = None
    whole_steps: bool = False


def keyed_loader(trainer: Trainer, sampler: EpochSampler, whole_steps: bool) -> DataLoader:
    """The loader of this process's batches of the training data.

    It is made as the Trainer makes its own, but for the parts of a batch: KeyedBatches gives them, so accelerate, which
    would divide them once more, is told that there is one process.

    Args:
        sampler: gives the order. whole_steps: whether `drop_last` leaves out what fills no step (else no batch).

    Raises:
        UserError: the last samples of an epoch are fewer than the processes.
    """
    args = trainer.args
    unit = args.train_batch_size * args.world_size * (args.gradient_accumulation_steps if whole_steps else 1)
    batches = KeyedBatches(
        sampler, args.train_batch_size, args.process_index, args.world_size, unit, args.dataloader_drop_last
    )
    given: dict[str, Any] = {
        name: getattr(args, f"dataloader_{name}")
        for name in (
            "num_workers",
            "pin_memory",
            "persistent_workers",
            "prefetch_factor",
            "multiprocessing_context",
            "in_order",
        )
        if hasattr(args, f"dataloader_{name}")
    }
    dataset = trainer.train_dataset
    assert isinstance(dataset, Sized)
    loader = DataLoader(cast(Any, dataset), batch_sampler=batches, collate_fn=trainer.data_collator, **given)
    accelerator = trainer.accelerator
    return prepare_data_loader(
        loader,
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=accelerator.device_placement,
        non_blocking=accelerator.non_blocking,
    )


@contextmanager
def named_workers() -> Iterator[None]:
    """Within, what goes wrong in a worker of a loader is one line: that it was killed, or what it could not read.

    Raises:
        UserError: a worker was killed, or met a UserError.
    """
    try:
        yield
    except UserError as error:  # torch gives it the trace of the worker for a message
        said = str(error)
        if not said.startswith("Caught "):
            raise
        raise UserError(said.rpartition(f"{UserError.__name__}: ")[2].strip()) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that prepares the data was killed ({str(error).splitlines()[0].rstrip('. ')}), as a system "
            "that is out of memory does: the last checkpoint is kept; continue with --resume, with fewer "
            "train.dataloader_num_workers if need be"
        ) from error


__all__ = ["SampleOrder", "keyed_loader", "named_workers"]
