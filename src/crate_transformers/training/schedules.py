"""Schedules as functions of the share of the run that is over, or of its epochs."""

import math
from dataclasses import dataclass


def cosine_between(start: float, end: float, share: float) -> float:
    """The value on half a cosine from `start` (at share 0) to `end` (at share 1); constant outside of [0, 1].

    Example:
        >>> [cosine_between(0.0, 2.0, share) for share in (-1, 0, 1, 2)]
        [0.0, 0.0, 2.0, 2.0]
    """
    share = min(max(share, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class EpochSchedule:
    """The learning rate of a step, as a share of its height; the same for all steps of an epoch.

        cosine(e) = lowest + (1 - lowest) (1 + cos(pi e / E)) / 2       e = 0, 1, ... the epoch; lowest for e > E
        warmup(e) = (e + 1) / W,  or  start + (1 - start) e / W         where the warm-up has a first rate
        share(e)  = min(warmup(e), cosine(e))  for e < W,  else  cosine(e)

    Sources: without `start` the training of CBT, arXiv 2509.16875; with it timm's cosine schedule, which DeiT and ToST
    (arXiv 2412.17810) use, as long as the warm-up stays below the cosine.

    Attributes:
        steps_per_epoch: optimizer steps. epochs: E, to the end of the cosine. warmup_epochs: W.
        start: share of the rate in the first epoch of the warm-up; None is 1 / W.
        lowest: share of the rate from epoch E on.

    Example:
        >>> schedule = EpochSchedule(steps_per_epoch=10, epochs=4, warmup_epochs=2)
        >>> [round(schedule(step), 2) for step in (0, 9, 10, 20, 30, 40)]
        [0.5, 0.5, 0.85, 0.5, 0.15, 0.0]
    """

    steps_per_epoch: int
    epochs: float
    warmup_epochs: float = 0.0
    start: float | None = None
    lowest: float = 0.0

    def __call__(self, step: int) -> float:
        """The share of the rate that a step has; the first step is 0."""
        epoch = step // self.steps_per_epoch
        cosine = cosine_between(1.0, self.lowest, epoch / self.epochs)
        if epoch >= self.warmup_epochs:
            return cosine
        if self.start is None:
            return min((epoch + 1) / self.warmup_epochs, cosine)
        return min(self.start + (1 - self.start) * epoch / self.warmup_epochs, cosine)


__all__ = ["EpochSchedule", "cosine_between"]
