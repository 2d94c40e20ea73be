"""The checkpoint of a run, sharded or gathered, as the Hugging Face folder of its finished model."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError
from ..evaluation.publishing import CARD_FILE, card_of_folder
from ..evaluation.run_folder import CHECKPOINTS, RECIPE_FILE
from ..files import give_usual_modes, write_bytes
from ..models.opening import open_model
from ..upstream import TRAINER_STATE_NAME
from .average import COUNT
from .checkpoints import Checkpoint, latest_checkpoint, open_checkpoint
from .finished import FINISHED, PLACE_FILE, place_of
from .stored import (
    AVERAGE,
    EMA_FILE,
    MODEL,
    MODEL_FILE,
    has_average,
    is_stored_sharded,
    read_shards,
    stored_shapes,
)

DESTINATION = "consolidated"  # the folder below the run's, where none is named


@dataclass(frozen=True)
class Consolidated:
    """What `consolidate` made.

    Attributes:
        folder: the model's. kind: its class. parameters: how many. step: of the checkpoint.
        of_average: whether the weights are the average of the run's.
    """

    folder: Path
    kind: str
    parameters: int
    step: int
    of_average: bool


def consolidate(
    source: str | Path,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
) -> Consolidated:
    """Make the folder of a model, as a run leaves it, of a checkpoint: model, configuration, processor, recipe, card.

    The weights are the average where the run has one. One process does it, with the memory that the model takes.

    Args:
        source: the folder of a run, whose best checkpoint is taken, or its newest where it keeps no best; or of one
            checkpoint.
        output: the folder to write; None is `consolidated` in the folder of the run.
        overwrite: replace that folder.
        on_note: receives a line for each checkpoint that is passed over.

    Raises:
        UserError: there is no checkpoint, it is damaged, or the output is there.

    Example:
        >>> consolidate("runs/none")
        Traceback (most recent call last):
        crate_transformers.errors.UserError: runs/none is neither a run with a checkpoint nor a checkpoint
    """
    source = Path(source).expanduser()
    checkpoint = _checkpoint_of(source, on_note)
    run = checkpoint.folder.parent.parent
    target = Path(output).expanduser() if output is not None else run / DESTINATION
    if target.exists() and not (overwrite and target.is_dir()):
        raise UserError(f"{target} is there already: name another --output, or pass --overwrite to replace it")
    place, averaged = place_of(checkpoint.folder), has_average(checkpoint.folder)
    staging = target.with_name(f".{target.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(checkpoint.folder / FINISHED, staging, ignore=shutil.ignore_patterns(PLACE_FILE))
    found = _tensors(checkpoint.folder, AVERAGE if averaged else MODEL)
    found.pop(COUNT, None)
    own = {name.removeprefix(place.prefix): t for name, t in found.items() if name.startswith(place.prefix)}
    save_file(own, staging / MODEL_FILE, metadata={"format": "pt"})
    model = open_model(staging)
    model.save_pretrained(staging)  # tied weights once, under the name that transformers keeps
    if (run / RECIPE_FILE).is_file():
        shutil.copyfile(run / RECIPE_FILE, staging / RECIPE_FILE)
    write_bytes(staging / CARD_FILE, card_of_folder(staging, title=run.absolute().name).encode())
    give_usual_modes(staging)
    if target.exists():
        shutil.rmtree(target)
    staging.rename(target)
    return Consolidated(target, place.kind, model.num_parameters(), checkpoint.step, averaged)


def _checkpoint_of(source: Path, on_note: Callable[[str], None]) -> Checkpoint:
    if (source / TRAINER_STATE_NAME).is_file():
        try:
            return open_checkpoint(source)
        except UserError as error:
            raise UserError(f"{source} is not whole: {error}") from error
    found = latest_checkpoint(source / CHECKPOINTS, on_note)
    if found is None:
        raise UserError(f"{source} is neither a run with a checkpoint nor a checkpoint")
    return open_checkpoint(found.best) if found.best is not None else found


def _tensors(folder: Path, part: str) -> dict[str, Tensor]:
    """All tensors of one part of a checkpoint, whole."""
    if not is_stored_sharded(folder):
        return load_file(folder / (EMA_FILE if part == AVERAGE else MODEL_FILE))
    shapes = {name: entry for name, entry in stored_shapes(folder).items() if name.startswith(f"{part}.")}
    tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in shapes.items()}
    read_shards(folder, tensors)
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items()}


__all__ = ["DESTINATION", "Consolidated", "consolidate"]
