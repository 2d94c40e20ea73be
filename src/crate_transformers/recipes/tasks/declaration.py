"""The declaration of a task: the options that it reads, those that it refuses, and the class that runs it.

Declarations are read without torch and transformers, so that recipes can be checked before anything heavy is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..limits import Limits
from ..options import DataOptions, TrainOptions


def _no_check(data: DataOptions, train: TrainOptions) -> None:
    """Accept all options together."""


def _no_lines(train: TrainOptions, steps: int, steps_per_epoch: int) -> list[str]:
    return []


@dataclass(frozen=True)
class TaskDeclaration:
    """One task, as a recipe sees it.

    Attributes:
        runs: "module:class" of the `training.tasks.Task` that opens the data, builds the model and measures it.
        data, train: dataclasses of the options that the task reads from the two sections.
        arguments: the arguments of transformers' TrainingArguments that this task reads and not every task does, each
            with its limits.
        refuses: "section.name" of an option of other tasks -> why this task cannot have it. An option that is not here
            is refused with the tasks that read it.
        check: called with the options of both sections; raises UserError where they do not go together.
        too_long: called with the `train` options, the steps of the run and those of an epoch; gives a note for each
            option that lasts too long for the run.
    """

    runs: str
    data: type[DataOptions] = DataOptions
    train: type[TrainOptions] = TrainOptions
    arguments: Mapping[str, Limits] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Any, Any], None] = _no_check
    too_long: Callable[[Any, int, int], list[str]] = _no_lines


__all__ = ["TaskDeclaration"]
