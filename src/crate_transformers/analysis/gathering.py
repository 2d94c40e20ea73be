"""One pass over the inputs, whatever is gathered on the way."""

from collections.abc import Sequence
from typing import Protocol

from torch import nn

from .batches import ModelInputs
from .tracing import Trace, trace_batches


class Gatherer(Protocol):
    """What gathers something from traces, batch by batch."""

    @property
    def records(self) -> tuple[str, ...]:
        """What the traces must hold, of `RECORDS`."""

    def update(self, trace: Trace) -> None:
        """Take in a batch."""


def gather(
    model: nn.Module,
    inputs: ModelInputs,
    gatherers: Sequence[Gatherer],
    *,
    part: str = "encoder",
    batch_size: int = 16,
) -> None:
    """Go through inputs once and let every gatherer see each batch; arguments as in `trace_batches`.

    Raises:
        ValueError: as in `trace_batches`, or as a gatherer does.
    """
    records = tuple(dict.fromkeys(name for gatherer in gatherers for name in gatherer.records))
    for batch in trace_batches(model, inputs, records, part=part, batch_size=batch_size):
        for gatherer in gatherers:
            gatherer.update(batch)


__all__ = ["Gatherer", "gather"]
