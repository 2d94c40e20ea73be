"""What a checkpoint says of the model that its run would end with: configuration, processor or tokenizer, place.

The weights of a checkpoint are those of the module that is trained. The finished model may be a part of it, as the
student's backbone is of a self-distilling pair.
"""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from ..errors import UserError
from .tasks import Task

FINISHED = "finished"  # the folder of a checkpoint that describes the finished model
PLACE_FILE = "place.json"


@dataclass(frozen=True)
class Place:
    """Where in the trained module the finished model is.

    Attributes:
        kind: its class. prefix: what its names begin with in the trained module.
    """

    kind: str
    prefix: str


def describe_finished(task: Task, trained: nn.Module, folder: Path) -> None:
    """Write the description of the finished model into the folder of a checkpoint.

    Args:
        trained: the trained module, whose weights are not read.
    """
    target = folder / FINISHED
    target.mkdir(parents=True, exist_ok=True)
    model = task.part_that_is_kept(trained)
    prefix = next(name for name, part in trained.named_modules() if part is model)
    config = copy.deepcopy(task.part_that_is_kept(task.model).config)  # training may have set a field
    config.architectures = [type(model).__name__]
    config.save_pretrained(target)
    if model.can_generate() and model.generation_config is not None:
        model.generation_config.save_pretrained(target)
    task.save_beside(target)
    place = Place(type(model).__name__, f"{prefix}." if prefix else "")
    (target / PLACE_FILE).write_text(json.dumps(asdict(place), indent=2) + "\n", encoding="utf-8")


def place_of(folder: Path) -> Place:
    """Where the finished model is, as a checkpoint says.

    Raises:
        UserError: the checkpoint does not say it: adapters alone, or an earlier version's.
    """
    path = folder / FINISHED / PLACE_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} does not describe its finished model: it holds adapters alone, or an earlier version wrote it; "
            "let its run end (crate train --resume)"
        )
    return Place(**json.loads(path.read_text(encoding="utf-8")))


__all__ = ["FINISHED", "PLACE_FILE", "Place", "describe_finished", "place_of"]
