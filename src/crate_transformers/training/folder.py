"""The folder of a run. A run claims it, empties or continues it as asked, and never mixes its files with others."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..evaluation.run_folder import METRICS_FILE, RECIPE_FILE, REPORT_FILE
from ..lock import LOCK_FILE, locked
from ..recipes.loading import load_recipe
from ..recipes.schema import Recipe
from .slurm import LOGS
from .tasks import CACHE


@contextmanager
def claimed(output: Path, resume: bool, overwrite: bool, is_main_process: bool) -> Iterator[None]:
    """Hold the folder of a run, which is made where it is missing. The main process holds it for all.

    Args:
        resume: continue the run in the folder. overwrite: empty the folder first.
        is_main_process: whether this process is the one that holds the folder; the others do nothing.

    Raises:
        UserError: `output` is a file, holds files that are no run, holds a run that is going on, or holds a run and
            neither resume nor overwrite was asked for.
    """
    if not is_main_process:
        yield
        return
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    if output.is_dir() and _holds(output) and not (output / RECIPE_FILE).is_file() and not _is_leftover(output):
        raise UserError(f"{output} holds files that are no run of ours: name another folder")
    output.mkdir(parents=True, exist_ok=True)
    with locked(output):
        if overwrite:
            _empty(output)
        elif not resume and (output / RECIPE_FILE).is_file():
            raise UserError(f"{output} already holds a run: pass --resume to continue it or --overwrite to replace it")
        yield


def _holds(output: Path) -> bool:
    return any(path.name != LOCK_FILE for path in output.iterdir())


def _empty(output: Path) -> None:
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()


def _is_leftover(output: Path) -> bool:
    """Whether a folder holds only what a run that was cut off at its very beginning leaves."""
    own = [
        output / LOCK_FILE,
        *output.glob(f".{RECIPE_FILE}*"),
        *output.glob(CACHE),
        *output.glob(f"{CACHE}/*tokens-*"),
        *output.glob(LOGS),
        *output.glob(f"{LOGS}/**/*"),
    ]
    return set(output.rglob("*")) <= set(own)


def finished_metrics(output: Path) -> dict[str, Any] | None:
    """The metrics of a finished run; None where metrics or report are missing, so that the run is not finished.

    Raises:
        UserError: metrics.json cannot be read.
    """
    path = output / METRICS_FILE
    if not path.is_file() or not (output / REPORT_FILE).is_file():
        return None
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(metrics, dict):
            return metrics
    except ValueError:
        pass
    raise UserError(f"{path} is damaged: delete it, and --resume measures the model again")


# what may change from one start of a run to the next: where and how it runs, not what it computes
_MAY_CHANGE = frozenset(
    {"name", "data.manifest_dir", "train.max_per_device_batch_size", "train.ddp_timeout", "train.fsdp"}
    | {"train.checkpoint_form", "train.checkpoint_in_background"}
    | {f"train.dataloader_{name}" for name in ("num_workers", "pin_memory", "persistent_workers", "prefetch_factor")}
)


def check_same(asked: Recipe, output: Path) -> None:
    """Refuse to continue a run with another recipe.

    Raises:
        UserError: a value differs (the message names the first one), or the stored recipe cannot be read.
    """
    path = output / RECIPE_FILE
    if not path.is_file():
        return
    before, now = _flat(load_recipe(str(path)).to_dict()), _flat(asked.to_dict())
    for key in sorted(before.keys() | now.keys()):
        if key not in _MAY_CHANGE and before.get(key) != now.get(key):
            raise UserError(
                f"the run in {output} was started with {key} = {before.get(key)!r}, now it is {now.get(key)!r}: "
                "resume it with the same settings, or pass --overwrite"
            )


def _flat(content: Mapping[str, object]) -> dict[str, object]:
    """Values by "section.name"; what stands in no section keeps its name."""
    flat: dict[str, object] = {}
    for section, values in content.items():
        if isinstance(values, dict):
            flat.update({f"{section}.{name}": value for name, value in values.items()})
        else:
            flat[section] = values
    return flat


__all__ = ["check_same", "claimed", "finished_metrics"]
