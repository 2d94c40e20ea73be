"""Schedules as functions of the share of the run that is over."""

import math


def cosine_between(start: float, end: float, share: float) -> float:
    """The value on half a cosine from `start` (at share 0) to `end` (at share 1); constant outside of [0, 1].

    Example:
        >>> [cosine_between(0.0, 2.0, share) for share in (-1, 0, 1, 2)]
        [0.0, 0.0, 2.0, 2.0]
    """
    share = min(max(share, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


__all__ = ["cosine_between"]
