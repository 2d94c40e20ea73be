"""Which pictures of a large set cannot be decoded: each is opened once, over all cores, by blocks that are noted.

A block is some pictures that lie together. Its digest stands for its names, sizes and times of change, so that a note
about it holds as long as none of them has changed: what was checked before a kill, or before other pictures were
added, is not decoded again.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from ...errors import UserError

_FEW = 4096  # so few pictures are checked by threads: processes take longer to start


@dataclass(frozen=True)
class Block:
    """Pictures from `start` to `stop`, and what stands for their state."""

    start: int
    stop: int
    digest: str


def check_blocks(
    blocks: Sequence[Block], problem: Callable[[int], str | None], notes: Path | None, what: str
) -> dict[int, str]:
    """Why pictures cannot be read: {index: reason}.

    Args:
        problem: why a picture cannot be read; None where it can. It is called in other processes.
        notes: the file of what was checked; it is added to block by block, and kept. None keeps none.
        what: the set, for messages.

    Raises:
        UserError: a process that checks was killed; what was checked stays noted.
    """
    known = read_notes(notes)
    waiting = [block for block in blocks if block.digest not in known]
    with notes.open("a", encoding="utf-8") if notes is not None else nullcontext() as file:
        for block, found in _found(waiting, problem, what):
            known[block.digest] = found
            if file is not None:
                file.write(f"\n{json.dumps({'block': block.digest, 'bad': found})}")  # the line before may be cut off
                file.flush()
    if notes is not None and len(known) > len(blocks):  # some are of pictures that are no more
        _rewrite(notes, [(block.digest, known[block.digest]) for block in blocks])
    return {block.start + int(place): reason for block in blocks for place, reason in known[block.digest].items()}


def _found(
    blocks: Sequence[Block], problem: Callable[[int], str | None], what: str
) -> Iterator[tuple[Block, dict[str, str]]]:
    checks = _Checks(blocks, problem)
    console = Console(stderr=True)
    if sum(block.stop - block.start for block in blocks) <= _FEW:
        with ThreadPoolExecutor() as pool:
            yield from zip(blocks, pool.map(checks.__getitem__, range(len(blocks))), strict=True)
        return
    loader = DataLoader(checks, batch_size=None, num_workers=_cores())
    shown = track(loader, f"checking {what}", len(blocks), console=console, disable=not console.is_terminal)
    try:
        yield from zip(blocks, shown, strict=True)
    except RuntimeError as error:  # as torch says it of a worker that is gone
        raise UserError(
            f"a process that checked the pictures of {what} was killed ({str(error).splitlines()[0]}): start again, "
            "what was checked is kept"
        ) from error


class _Checks(Dataset):
    """Of each block, the pictures that cannot be read: {place within the block: reason}."""

    def __init__(self, blocks: Sequence[Block], problem: Callable[[int], str | None]):
        self.blocks, self.problem = blocks, problem

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, str]:
        block = self.blocks[index]
        reasons = ((i - block.start, self.problem(i)) for i in range(block.start, block.stop))
        return {str(place): reason for place, reason in reasons if reason is not None}


def _cores() -> int:
    with suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_notes(path: Path | None) -> dict[str, dict[str, str]]:
    """What is noted of each block that was checked, by its digest: {place within the block: reason}."""
    known: dict[str, dict[str, str]] = {}
    if path is not None and path.is_file():
        for line in path.read_text(encoding="utf-8").split("\n"):
            with suppress(ValueError, KeyError):  # the line that was being written when its process was killed
                entry = json.loads(line)
                known[entry["block"]] = entry["bad"]
    return known


def _rewrite(path: Path, entries: Sequence[tuple[str, dict[str, str]]]) -> None:
    fresh = path.with_name(f"{path.name}.part")
    fresh.write_text("\n".join(json.dumps({"block": b, "bad": found}) for b, found in entries), encoding="utf-8")
    fresh.replace(path)


__all__ = ["Block", "check_blocks", "read_notes"]
