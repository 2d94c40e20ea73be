"""Tables of csv and json files and of the hub, as `datasets.Dataset`, with the types that the files have.

csv and json are read by `rows.py`, not by the loaders of `datasets`: those take the cells NA and None for missing
ones, 01 for 1, and dates for points in time.
"""

import hashlib
import json
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ...errors import UserError
from ...files import user_path
from ..files import file_states, first_names, staged, suffix_of, visible_files
from ..parts import by_part, check_parts, part_of
from .column_types import column_types
from .rows import read_rows

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

_SUFFIXES = {"csv": (".csv",), "json": (".json", ".jsonl")}
_FORMAT = 1  # of the kept rows: a new number makes them anew


def load_tables(kind: str, argument: str, streaming: bool = False) -> dict[str, "Dataset | IterableDataset"]:
    """Tables of a csv or json file, of a folder of those, or of a hub data set: name of a part -> its rows.

    Columns of a csv file are text. The parts of a folder are its files named train*, val* and test* (see
    `parts.part_of`), or the files in folders of those names; folders of other names are no part of the data.

    Args:
        kind: "csv", "json" or "hub". argument: the path; of the hub, the name, or NAME:CONFIG.
        streaming: read a data set of the hub as it arrives; the others are read whole.

    Raises:
        ValueError: nothing there, files that are no tables, files that belong to no part, a part without a row, a
            column of mixed types; named.
    """
    if kind == "hub":
        return _hub(argument, streaming)
    parts = _part_files(kind, user_path(argument))
    return {part: _table(kind, part, paths) for part, paths in parts.items()}


def take(table_length: int, fraction: float, seed: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """(kept, taken): places of the rows that stay and of those that are held out, drawn with the seed.

    Args:
        fraction: of the rows, at least one of which is taken. what: what to call the table in a message.

    Raises:
        ValueError: too few rows to leave one.
    """
    order = np.random.default_rng(seed).permutation(table_length)
    count = max(1, round(fraction * table_length))
    if count >= table_length:
        raise UserError(f"{what} has too few rows ({table_length}) to hold {count} out and learn from the others")
    return order[count:], order[:count]


def _hub(argument: str, streaming: bool) -> dict[str, "Dataset | IterableDataset"]:
    from datasets import load_dataset  # heavy

    name, _, configuration = argument.partition(":")
    try:
        return dict(load_dataset(name, configuration or None, streaming=streaming))
    except Exception as error:
        cause = error.__cause__ or error  # the reason itself, which the library wraps
        raise UserError(f"the data set hub:{argument} could not be read: {cause}") from error


def _part_files(kind: str, root: Path) -> dict[str, list[Path]]:
    if root.is_file():
        return {"train": [root]}
    paths = [path for path in visible_files(root) if suffix_of(path) in _SUFFIXES[kind]] if root.is_dir() else []
    paths = [path for path in paths if path.parent == root or part_of(path.relative_to(root).parts[0])]
    if not paths:
        raise UserError(f"no {kind} file at {root}: expected a file, or a folder with train{_SUFFIXES[kind][0]}")
    parts, others = by_part(root, paths)
    if others or "train" not in parts:
        raise UserError(
            f"{root} has {first_names(others or paths, root)}: expected files named train*, and val* and test* beside "
            "them, and no others; name one file to read it alone"
        )
    check_parts(root, parts, kind)
    return parts


def _table(kind: str, part: str, paths: list[Path]) -> "Dataset":
    """The rows of some files. They are written into the cache of `datasets` once, and again when a file changes."""
    from datasets import Dataset, config  # heavy

    key = json.dumps([_FORMAT, kind, file_states(paths)])
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    kept = Path(config.HF_DATASETS_CACHE) / "crate_transformers" / f"{digest}.arrow"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with staged(kept) as file:
            if not _write(file, kind, paths):
                raise UserError(f"the {part} part has no row: {first_names(paths)}")
    return Dataset.from_file(str(kept))


def _write(file: BinaryIO, kind: str, paths: list[Path]) -> int:
    """Write the rows of some files as an Arrow stream; return their number."""
    import pyarrow  # comes with datasets

    schema, mixed = column_types(kind, paths)
    count = 0
    with pyarrow.ipc.new_stream(file, schema) as writer:
        rows = chain.from_iterable(read_rows(kind, path) for path in paths)
        while batch := list(islice(rows, 1000)):
            for row in batch if mixed else ():
                row.update({name: _as_text(row.get(name)) for name in mixed})
            try:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:  # or the file has changed since
                raise UserError(f"{first_names(paths)}, from row {count} on: {error}") from error
            count += len(batch)
    return count


def _as_text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


__all__ = ["load_tables", "take"]
