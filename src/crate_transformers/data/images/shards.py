"""Pictures in shards: a folder of tar or Parquet files, PART-00000-of-00012.tar; any one is read by its number.

The index (where each picture lies, and its label) is made once, by one process, and kept as mapped arrays (kept.py).
`crate shard` writes `shards.json` last, with the names of the classes and the size of every shard; of shards from
elsewhere, every picture is decoded once when the index is made, as those of a folder are.
"""

import json
import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ...files import user_path
from ..kept import Kept, kept
from ..parts import UNDERSTOOD, by_part
from .checking import Block, check_blocks
from .decoding import decode_image
from .labelled import ImageSplits, LabelledImages, SplitOptions, assemble, checked_labels
from .listing import state_of
from .manifest import kept_place
from .shard_files import SHARD_SUFFIXES, ShardReader, index_of

SHARDS_FILE = "shards.json"
_FORMAT, _BLOCK = 1, 256
_NUMBERED = re.compile(r"(.*)-(\d{5,})-of-(\d{5,})")


def load_shards(argument: str, options: SplitOptions) -> ImageSplits:
    """Open the folder of shards at `argument`.

    Raises:
        UserError: no shards, one that is missing, cut off or damaged, labels that do not fit, or unreadable pictures.
    """
    root = Path(os.path.abspath(user_path(argument)))
    if not root.is_dir():
        raise UserError(f"no folder at {root}")
    known = _known(root)
    parts = _parts(root, known)
    paths = [path for own in parts.values() for path in own]
    reader = ShardReader(paths)
    states = [[str(path.relative_to(root)), *state_of(str(path))] for path in paths]
    about = {"format": _FORMAT, "shards": states, "known": known}

    def make(work: Path, before: Kept | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Index the shards, and check the pictures of those that `crate shard` has not written."""
        indices = [index_of(path) for path in paths]
        arrays = {name: np.concatenate([getattr(index, name) for index in indices]) for name in _ARRAYS}
        ends = np.cumsum([len(index.labels) for index in indices]).astype(np.int64)
        classes = known.get("classes") or next((index.classes for index in indices if index.classes), None)
        bad = {} if known else _damaged(root, paths, states, arrays, ends, work)
        return {**about, "classes": classes, "bad": list(bad.items())}, {**arrays, "ends": ends}

    def is_current(version: Kept) -> bool:
        """Whether the shards are as this version says."""
        return all(version.about.get(name) == value for name, value in about.items())

    try:
        version = kept(kept_place(root, options.manifest_dir), is_current, make)
    except OSError as error:
        raise UserError(
            f"the index of {root} cannot be kept ({error.strerror}): set data.manifest_dir to a folder that can be "
            "written"
        ) from error
    return _splits(root, parts, version, reader, options)


_ARRAYS = ("offsets", "lengths", "labels")


def _splits(
    root: Path, parts: dict[str, list[Path]], version: Kept, reader: ShardReader, options: SplitOptions
) -> ImageSplits:
    ends, offsets, lengths = (version.arrays[name] for name in ("ends", "offsets", "lengths"))
    bad = dict(version.about["bad"])
    if bad and not options.skip_unreadable:
        listed = "; ".join(list(bad.values())[:5])
        raise UserError(
            f"{len(bad)} of {len(offsets)} images in {root} cannot be read: {listed}. Mend or remove them, or pass "
            "--set data.skip_unreadable=true"
        )
    labels = version.arrays["labels"]
    classes = version.about["classes"] or [str(label) for label in range(int(labels.max(initial=-1)) + 1)]
    if checked_labels(labels, len(classes), str(root)) is None:
        raise UserError(f"{root} has no labels (all are -1): there is nothing to learn from")

    def content(index: int) -> bytes:
        """The bytes of a picture."""
        shard = int(np.searchsorted(ends, index, side="right"))
        return reader.read(shard, int(offsets[index]), int(lengths[index]))

    def name(index: int) -> str:
        """The shard of a picture and its number there."""
        shard = int(np.searchsorted(ends, index, side="right"))
        return f"{reader.paths[shard]}[{index - (int(ends[shard - 1]) if shard else 0)}]"

    everything = LabelledImages(
        read=lambda i, channels: decode_image(BytesIO(content(i)), name(i), channels),
        labels=labels,
        name=name,
        ends=ends,
        encoded=content,
    )
    images, first, count = {}, 0, 0
    for part, own in parts.items():
        count += len(own)
        stop = int(ends[count - 1])
        places = np.setdiff1d(np.arange(first, stop), list(bad)) if bad else np.arange(first, stop)
        images[part], first = everything.subset(places), stop
    if not len(images["train"]):
        raise UserError(f"the train part of {root} holds no image")
    return assemble(str(root), classes, images, options, tuple(name(index) for index in bad))


def _known(root: Path) -> dict[str, Any]:
    """What `crate shard` wrote about the shards; nothing where another tool made them."""
    path = root / SHARDS_FILE
    if not path.is_file():
        if list(root.glob(".making-shards")):
            raise UserError(f"{root} is not whole: `crate shard` was stopped; start it again, it goes on where it was")
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        sizes = {str(name): int(size) for name, size in known["bytes"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    for name, size in sizes.items():
        if not (root / name).is_file():
            raise UserError(f"{root / name} is missing: {SHARDS_FILE} names {len(sizes)} shards")
        if (root / name).stat().st_size != size:
            raise UserError(f"{root / name} has {(root / name).stat().st_size:,} of {size:,} bytes: it is cut off")
    return known


def _parts(root: Path, known: dict[str, Any]) -> dict[str, list[Path]]:
    """{part: its shards in order}, train first."""
    found = [root / name for name in known["bytes"]] if known else []
    found = found or [path for path in root.rglob("*") if path.suffix in SHARD_SUFFIXES and path.name[0] != "."]
    if not found:
        raise UserError(f"{root} has no shards: expected {' or '.join(f'*{suffix}' for suffix in SHARD_SUFFIXES)}")
    parts, others = by_part(root, sorted(found))
    nested = {path for path in others if path.parent != root}
    if nested:  # as the hub has them, data/train-00000-of-00005.parquet
        inner, others = by_part(next(iter(nested)).parent, sorted(others))
        parts = {**inner, **parts}
    if parts and others:
        raise UserError(f"{root} has {others[0].name} beside shards of parts: {UNDERSTOOD}")
    parts = parts or {"train": others}
    if "train" not in parts:
        raise UserError(f"{root} has no shards of a train part; {UNDERSTOOD}")
    for path in found:
        numbered = _NUMBERED.fullmatch(path.stem)
        if numbered is None:
            continue
        for number in range(int(numbered[3])):
            other = path.with_name(f"{numbered[1]}-{number:0{len(numbered[2])}d}-of-{numbered[3]}{path.suffix}")
            if other not in found:
                raise UserError(f"{other} is missing: {path.name} says that there are {int(numbered[3])} shards")
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def _damaged(
    root: Path, paths: list[Path], states: list[list[Any]], arrays: dict[str, np.ndarray], ends: np.ndarray, work: Path
) -> dict[int, str]:
    """{index: reason} of the pictures that cannot be decoded."""
    reader, blocks, first = ShardReader(paths), [], 0
    for (name, size, changed), end in zip(states, ends.tolist(), strict=True):
        for start in range(first, end, _BLOCK):
            stop = min(start + _BLOCK, end)
            blocks.append(Block(start, stop, f"{name}:{size}:{changed}:{start - first}:{stop - first}"))
        first = end

    def problem(index: int) -> str | None:
        """Why a picture cannot be decoded."""
        shard = int(np.searchsorted(ends, index, side="right"))
        place = f"{paths[shard]}[{index - (int(ends[shard - 1]) if shard else 0)}]"
        try:
            content = reader.read(shard, int(arrays["offsets"][index]), int(arrays["lengths"][index]))
            decode_image(BytesIO(content), place)
        except UserError as error:
            return str(error)
        return None

    return check_blocks(blocks, problem, work / "checked.jsonl", str(root))


__all__ = ["SHARDS_FILE", "load_shards"]
