"""Checkpoints of a run: sealing and checking them, finding the one to continue from, and the progress that they hold.

The Trainer writes a checkpoint into another folder and renames that when it is complete. The last file,
`checkpoint.json`, holds size and checksum of every other one. So a checkpoint that was cut off is never seen, and one
that was damaged afterwards is never loaded.
"""

import hashlib
import json
from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation.run_folder import checkpoints_in
from ..files import write_bytes
from ..upstream import TRAINER_STATE_NAME

MANIFEST = "checkpoint.json"
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds of a run beside the Trainer's state.

    Attributes:
        processes: the number of processes. batch_size: samples that each process takes at a time.
        loss_sum: the sum of the losses of all steps.
        seconds: the time that training took. data_seconds: the part of it that was spent waiting for data.
        base: of a run that trains adapters, the digest of the weights that they are around.
        samples: training samples that were taken, by all processes together: the place in the order of the data.
        data_size: training samples that there are; 0 of a stream.
    """

    processes: int = 1
    batch_size: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    data_seconds: float = 0.0
    base: str = ""
    samples: int = 0
    data_size: int = 0


def data_size(samples: object) -> int:
    """How many samples a data set has; 0 of a stream."""
    return len(samples) if isinstance(samples, Sized) else 0


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        state: the Trainer's state, as its file holds it.
    """

    folder: Path
    state: dict[str, Any]
    progress: Progress

    @property
    def step(self) -> int:
        """The number of steps that the run had made."""
        return int(self.state["global_step"])

    @property
    def best(self) -> Path | None:
        """The folder of the best checkpoint so far; None where no checkpoint was saved at the best evaluation."""
        name = self.state.get("best_model_checkpoint")
        return self.folder.parent / Path(name).name if name else None

    @property
    def is_last(self) -> bool:
        """Whether the run had made all its steps."""
        return self.step >= int(self.state["max_steps"])


def seal(folder: Path, progress: Progress) -> None:
    """Write size and checksum of every file of a finished checkpoint into its last file."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    content = {"progress": asdict(progress), "files": files}
    write_bytes(folder / MANIFEST, json.dumps({**content, "sha256": _sha256_of(content)}, indent=2).encode())


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, and check every file of it.

    Raises:
        UserError: a file is missing or damaged; the message names it.
    """
    content = _json(folder / MANIFEST)
    digest = content.pop("sha256", None)
    if digest != _sha256_of(content):
        raise UserError(f"{MANIFEST} is damaged")
    for name, written in content["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{name} is missing")
        if path.stat().st_size != written["bytes"]:
            raise UserError(f"{name} has {path.stat().st_size} of {written['bytes']} bytes")
        if _sha256(path) != written["sha256"]:
            raise UserError(f"{name} holds other bytes than were written")
    return Checkpoint(folder, _json(folder / TRAINER_STATE_NAME), Progress(**content["progress"]))


def latest_checkpoint(run_dir: Path, on_note: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint from which a run reaches the same end: it is whole, and the best one so far is whole.

    Args:
        run_dir: the folder of checkpoints. on_note: receives a line for each checkpoint that is passed over.

    Returns:
        None where there is no checkpoint at all.

    Raises:
        UserError: there are checkpoints, and none is whole.
    """
    folders = checkpoints_in(run_dir)
    for folder in reversed(folders):
        try:
            checkpoint = open_checkpoint(folder)
            if checkpoint.best is not None and checkpoint.best != folder:
                _open_best(checkpoint.best)
            return checkpoint
        except UserError as error:
            on_note(f"{folder.name} is not whole ({error}): the one before it is taken")
    if folders:
        raise UserError(
            f"no checkpoint in {run_dir} is whole: start the run again with --overwrite (what is damaged is said above)"
        )
    return None


def _open_best(folder: Path) -> None:
    try:
        open_checkpoint(folder)
    except UserError as error:
        raise UserError(f"of {folder.name}, the best so far, {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.name} is missing") from error
    except ValueError as error:
        raise UserError(f"{path.name} is damaged") from error
    if not isinstance(content, dict):
        raise UserError(f"{path.name} is damaged")
    return content


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sha256_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


__all__ = ["Checkpoint", "Progress", "data_size", "latest_checkpoint", "open_checkpoint", "seal"]
