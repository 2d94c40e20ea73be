"""A stand-in for the model and the batches of a run: their shapes without their numbers.

It lives on torch's meta device, where a tensor has a shape and a dtype and no memory. So a step of the largest recipe
can be taken, and counted, on any machine, and no data are opened.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import UserError


@dataclass(frozen=True)
class DataFacts:
    """What has to be known of data to plan a run on them; None is unknown.

    Attributes:
        samples: of the training part. classes: of the labels; of multiple choice, the choices of a question.
        vocabulary: tokens that the tokenizer knows.
    """

    samples: int | None = None
    classes: int | None = None
    vocabulary: int | None = None

    def known(self, name: str, option: str) -> int:
        """A fact that a task needs.

        Raises:
            UserError: it is unknown; the message names the option that says it.
        """
        value = getattr(self, name)
        if value is None:
            raise UserError(f"the {name} of the data are not known before the data are opened: say them with {option}")
        return int(value)


@dataclass(frozen=True)
class StandIn:
    """A model and its batches, on the meta device.

    Attributes:
        model: what the run would train. batch: rows -> the inputs of a training step with as many rows.
        unit: what a row is made of ("images", "tokens"). units: how many of them a row has.
    """

    model: nn.Module
    batch: Callable[[int], dict[str, Tensor]]
    unit: str = "images"
    units: int = 1


def blank(*shape: int) -> Tensor:
    """A float32 tensor (*shape) without numbers."""
    return torch.empty(shape, device="meta")


def blank_numbers(*shape: int) -> Tensor:
    """An int64 tensor (*shape) without numbers."""
    return torch.empty(shape, dtype=torch.long, device="meta")


__all__ = ["DataFacts", "StandIn", "blank", "blank_numbers"]
