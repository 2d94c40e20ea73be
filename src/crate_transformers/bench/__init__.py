"""Benchmarks: this library beside its public formulation and transformers' own models, in one run."""

from .contenders import Case, build
from .run import Row, run_contest, run_suite
from .suites import SUITES, Contest, contests_of
from .timing import Ratio, Timing, interleave, ratio

__all__ = [
    "SUITES",
    "Case",
    "Contest",
    "Ratio",
    "Row",
    "Timing",
    "build",
    "contests_of",
    "interleave",
    "ratio",
    "run_contest",
    "run_suite",
]
