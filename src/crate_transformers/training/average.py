"""An exponential moving average of the weights (EMA), which a run evaluates and keeps instead of them.

    a <- d a + (1 - d) w     after every optimizer step; a = w after the first

Where the processes share the weights (sharding.py), they share the average in the same way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..errors import UserError
from .sharding import local, saved_tensors

COUNT = "n_averaged"  # the number of steps that an average has seen, as torch calls it


class Ema(TrainerCallback):
    """An exponential moving average of the weights.

    The buffers of the model are averaged with the parameters, as the published runs do: the running statistics of a
    BatchNorm are then those of the average. Counts, which are integers, are the model's latest. Every checkpoint holds
    the average, and a run that is resumed goes on with it. Before the first step it is the model itself.

    Args:
        decay: of the average, per optimizer step.

    Attributes:
        average: the tensors by name, on the model's device and shared among processes as the model's are; empty before
            the first step. steps: how many steps it has seen.
    """

    def __init__(self, decay: float):
        self._move = get_ema_multi_avg_fn(decay)
        self.average: dict[str, Tensor] = {}
        self.steps = 0

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        assert model is not None
        self.update(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights after a step."""
        latest = {name: tensor.detach() for name, tensor in saved_tensors(model).items()}
        if not self.average:
            self.average = {name: tensor.clone() for name, tensor in latest.items()}
        else:
            for names in _by_kind(latest):
                averages, own = ([local(part[name]) for name in names] for part in (self.average, latest))
                self._towards(averages, own)
        self.steps += 1

    def _towards(self, averages: Sequence[Tensor], latest: Sequence[Tensor]) -> None:
        """Move tensors of one type; integers, which torch would average, are copied."""
        if averages[0].is_floating_point():
            self._move(averages, latest, self.steps)
            return
        for average, own in zip(averages, latest, strict=True):
            average.copy_(own)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average within the context, and its own weights and buffers again afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in saved_tensors(model).items()}
        self.keep_in(model)
        try:
            yield
        finally:
            _copy(own, model)

    def keep_in(self, model: nn.Module) -> None:
        """Give the model the average for good."""
        if self.average:
            _copy(self.average, model)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """What a checkpoint holds of it: the tensors by name, and the number of steps."""
        average = self.average or {name: tensor.detach() for name, tensor in saved_tensors(model).items()}
        return {**average, COUNT: torch.tensor(self.steps)}

    def restore(self, model: nn.Module, read_into: Callable[[dict[str, Tensor]], Sequence[str]]) -> None:
        """Go on with the average of a checkpoint.

        Args:
            model: the one that is averaged, prepared for training.
            read_into: fills tensors by name from the checkpoint, and gives the names that it does not have.

        Raises:
            UserError: the checkpoint is of an earlier version, which did not average the buffers.
        """
        found = {name: torch.empty_like(tensor) for name, tensor in self.state(model).items()}
        missing = read_into(found)
        if missing:
            raise UserError(
                f"the checkpoint has no average of {missing[0]}: an earlier version wrote it; start the run again with "
                "--overwrite"
            )
        self.steps = int(found.pop(COUNT))
        self.average = {name: tensor.detach() for name, tensor in found.items()} if self.steps else {}


def _by_kind(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of tensors of one type and device together, as torch's operators on lists want them."""
    kinds: dict[tuple[torch.dtype, torch.device], list[str]] = {}
    for name, tensor in tensors.items():
        kinds.setdefault((tensor.dtype, tensor.device), []).append(name)
    return list(kinds.values())


@torch.no_grad()
def _copy(tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, own in saved_tensors(model).items():
        local(own).copy_(local(tensors[name]))


__all__ = ["COUNT", "Ema"]
