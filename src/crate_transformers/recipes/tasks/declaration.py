"""What a task declares: the options that it reads, what it refuses, and where its run-time half is.

Declarations are read without torch and transformers, so that recipes can be checked before anything heavy is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..limits import Limits
from ..options import DataOptions, TrainOptions


def _nothing(data: Any, train: Any) -> None:
    """No check."""


def _no_lines(train: Any, steps: int, steps_per_epoch: int) -> list[str]:
    return []


@dataclass(frozen=True)
class TaskDeclaration:
    """One task, as a recipe sees it.

    Attributes:
        runs: "module:class" of the half that opens the data, builds the model and measures it: a `training.tasks.Task`.
        data, train: dataclasses of the options that the task reads of the two sections.
        arguments: those of transformers' TrainingArguments that this task reads, and not every task does, each with its
            limits.
        refuses: "section.name" of an option of other tasks -> why this task cannot have it. An option that stands in
            no such table is refused with the tasks that it is of.
        check: what must go together: called with the options of both sections, raises UserError.
        too_long: lines to tell of options that last too long for a run: called with the `train` options, the steps of
            the run and those of an epoch.
    """

    runs: str
    data: type[DataOptions] = DataOptions
    train: type[TrainOptions] = TrainOptions
    arguments: Mapping[str, Limits] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Any, Any], None] = _nothing
    too_long: Callable[[Any, int, int], list[str]] = _no_lines


__all__ = ["TaskDeclaration"]
