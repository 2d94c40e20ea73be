"""Contenders timed side by side: interleaved, warmed up, with the ratio of their medians and its interval.

On a machine that is shared, minutes differ more than contenders do. So every repetition runs each contender once, in an
order that rotates, and only ratios are compared.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import UserError


@dataclass(frozen=True)
class Ratio:
    """How many times faster: ratio of medians, and the interval that holds 95 % of its bootstrap values."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}x [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one contender."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    @property
    def least(self) -> float:
        """Seconds of the fastest repetition, which other work on the machine disturbed least."""
        return min(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """(first, third), seconds."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(low), float(high)


def interleave(
    contenders: dict[str, Callable[[], Any]], repetitions: int = 9, warmup: int = 2, budget: float = 120.0
) -> dict[str, Timing]:
    """Time each contender once a repetition, in an order that rotates.

    Args:
        contenders: what to call, by name.
        repetitions: rounds to measure, >= 1. warmup: rounds that are not measured.
        budget: seconds after which no further round starts (three are always measured, where asked for).

    Raises:
        ValueError: no contender or no repetition.
    """
    if not contenders or repetitions < 1:
        raise UserError(f"nothing to time: {len(contenders)} contenders, {repetitions} repetitions")
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    start = time.perf_counter()
    for round_number in range(-warmup, repetitions):
        if round_number >= 3 and time.perf_counter() - start > budget:
            break
        shift = round_number % len(names)
        for name in names[shift:] + names[:shift]:
            began = time.perf_counter()
            contenders[name]()
            _finish()
            if round_number >= 0:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(slower: Timing, faster: Timing, draws: int = 2000, seed: int = 0) -> Ratio:
    """Median of `slower` over median of `faster`, with its bootstrap interval.

    Rounds are drawn for both together, because both were timed in the same rounds.

    Args:
        draws: bootstrap samples. seed: of them.

    Raises:
        ValueError: timings with different numbers of rounds.
    """
    slow, fast = np.asarray(slower.seconds), np.asarray(faster.seconds)
    if slow.shape != fast.shape:
        raise UserError(f"timings of one run have the same rounds, got {slow.size} and {fast.size}")
    rounds = np.random.default_rng(seed).integers(0, slow.size, size=(draws, slow.size))
    values = np.median(slow[rounds], axis=1) / np.median(fast[rounds], axis=1)
    low, high = np.quantile(values, (0.025, 0.975))
    return Ratio(float(np.median(slow) / np.median(fast)), float(low), float(high))


__all__ = ["Ratio", "Timing", "interleave", "ratio"]
