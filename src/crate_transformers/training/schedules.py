"""Schedules that are functions of how much of the run is over."""

import math


def cosine_between(start: float, end: float, share: float) -> float:
    """From start (share 0) to end (share 1) along half a cosine; constant outside.

    Example:
        >>> [cosine_between(0.0, 2.0, share) for share in (-1, 0, 1, 2)]
        [0.0, 0.0, 2.0, 2.0]
    """
    share = min(max(share, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


__all__ = ["cosine_between"]
