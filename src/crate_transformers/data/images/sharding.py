"""From any source of pictures to shards: the bytes of files as they are, in an order that is drawn once.

Every shard is written beside its name and renamed, so what is there is whole: a maker that was killed goes on with the
first that is missing. `shards.json` comes last. One maker holds the folder; another one waits, and finds it done.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files import write_bytes
from ...lock import LOCK_FILE, HeldError, locked
from .decoding import decode_image
from .labelled import LabelledImages
from .shard_files import write_shard
from .shards import SHARDS_FILE
from .sources import load_image_source

_PLAN = ".making-shards"


@dataclass(frozen=True)
class ShardPlan:
    """What is made of what.

    Attributes:
        source: as `load_image_source` takes it. format: "tar" or "parquet". samples: pictures of a shard.
        seed: of the order in which the pictures of a part lie in its shards.
        skip_unreadable: leave out what cannot be read. root: where torchvision keeps its files.
    """

    source: str
    format: str = "tar"
    samples: int = 4096
    seed: int = 0
    skip_unreadable: bool = False
    root: str | None = None


def make_shards(
    plan: ShardPlan, destination: str | Path, on_note: Callable[[str], None] = lambda line: None
) -> dict[str, int]:
    """Write the shards of a source, with the parts that it has itself and the names of its classes.

    Returns:
        {shard: its bytes}.

    Raises:
        UserError: what `load_image_source` raises; the folder holds something else, or shards of another plan.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(make_shards(ShardPlan("digits", samples=1000), folder))
        ['train-00000-of-00002.tar', 'train-00001-of-00002.tar']
    """
    if plan.format not in ("tar", "parquet"):
        raise UserError(f"--format must be tar or parquet, got {plan.format!r}")
    folder = Path(destination)
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            with locked(folder):
                return _make(plan, folder, on_note)
        except HeldError:
            time.sleep(0.2)


def _make(plan: ShardPlan, folder: Path, on_note: Callable[[str], None]) -> dict[str, int]:
    known = next((folder / name for name in (SHARDS_FILE, _PLAN) if (folder / name).is_file()), None)
    if known is not None:
        content = json.loads(known.read_text(encoding="utf-8"))
        if content["plan"] != asdict(plan):
            raise UserError(f"{folder} holds shards of {content['plan']}: name another folder, or empty it")
        if known.name == SHARDS_FILE:
            on_note(f"the shards in {folder} are there already")
            return dict(content["bytes"])
    elif any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise UserError(f"{folder} is not empty: name another folder")
    write_bytes(folder / _PLAN, json.dumps({"plan": asdict(plan)}).encode())
    splits = load_image_source(plan.source, plan.root, 0.0, 0.0, plan.seed, plan.skip_unreadable)
    if splits.left_out:
        on_note(f"left out {len(splits.left_out)} unreadable images: {', '.join(splits.left_out[:5])}")
    written: dict[str, int] = {}
    for part in ("train", "validation", "test"):
        images: LabelledImages = getattr(splits, part)
        order = np.random.default_rng(plan.seed).permutation(len(images))
        count = -(-len(images) // plan.samples)
        for number in range(count):
            path = folder / f"{part}-{number:05d}-of-{count:05d}.{plan.format}"
            if not path.is_file():
                start = number * plan.samples
                write_shard(path, _items(images, order[start : start + plan.samples], start), splits.classes)
            written[path.name] = path.stat().st_size
    about = {"plan": asdict(plan), "classes": splits.classes, "bytes": written}
    write_bytes(folder / SHARDS_FILE, json.dumps(about).encode())
    (folder / _PLAN).unlink()
    return written


def _items(images: LabelledImages, places: np.ndarray, first: int) -> Iterator[tuple[int, bytes, int]]:
    """(number, bytes of a picture that can be decoded, label)."""
    for number, place in enumerate(places.tolist(), start=first):
        if images.encoded is not None:
            content = images.encoded(place)
            decode_image(BytesIO(content), images.name(place))
        else:
            file = BytesIO()
            images.read(place, 3).save(file, "PNG")
            content = file.getvalue()
        yield number, content, int(images.labels[place])


__all__ = ["ShardPlan", "make_shards"]
