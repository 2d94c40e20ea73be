"""What a run costs, before anything is spent: operations, memory, disk, time, energy, money."""

from .devices import DEVICES, Device, device_of
from .facts import PUBLIC, Facts, facts_of
from .plan import Figure, Plan, Terms, plan
from .step import LiveBytes, StepCount, count_step

__all__ = [
    "DEVICES",
    "PUBLIC",
    "Device",
    "Facts",
    "Figure",
    "LiveBytes",
    "Plan",
    "StepCount",
    "Terms",
    "count_step",
    "device_of",
    "facts_of",
    "plan",
]
