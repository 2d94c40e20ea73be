"""Where text comes from: `python-reference`, `text:PATH`, `csv:PATH`, `json:PATH`, `hub:NAME`.

Text is read in pieces, so a file larger than memory, or of one endless line, is no different from a small one. Held-out
text is a contiguous part at the end (of files), or whole documents drawn with the seed (of everything else).
"""

import codecs
import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

_PIECE = 1 << 16  # bytes read at a time; tokenizing pieces of 1 MB left the heap in fragments that grew with the text
_SOURCES = {
    "python-reference": "python-reference",
    "text": "text:PATH",
    "csv": "csv:PATH",
    "json": "json:PATH",
    "hub": "hub:NAME",
}

Document = Callable[[], Iterator[str]]  # a document, read in pieces


def _once(text: str) -> Iterator[str]:
    yield text


@dataclass(frozen=True)
class TextPart:
    """Documents of one part of a source; documents() may be called again and gives the same."""

    documents: Callable[[], Iterator[Document]]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextPart":
        """One document a text; the texts must be iterable more than once."""
        return cls(lambda: (partial(_once, text) for text in texts))

    def pieces(self) -> Iterator[str]:
        """All text, piece by piece."""
        for document in self.documents():
            yield from document()

    def read(self) -> str:
        """All text at once, for parts that are known to be small."""
        return "".join(self.pieces())


@dataclass(frozen=True)
class TextSplits:
    """Training, validation and test text of a source."""

    name: str
    train: TextPart
    validation: TextPart
    test: TextPart


def load_text_source(
    source: str,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.05,
    seed: int = 0,
    text_column: str | None = None,
    streaming: bool = False,
) -> TextSplits:
    """Open a source of running text.

    Args:
        source: "python-reference" (the language reference that comes with Python); "text:PATH" (a file, or a folder of
            .txt and .md files); "csv:PATH" or "json:PATH" (a file, or a folder with train, validation and test files;
            the text stands in `text_column`); "hub:NAME" or "hub:NAME:CONFIG".
        validation_fraction, test_fraction: held out where the source has no such part, in (0, 1).
        streaming: read a hub data set as it arrives.

    Raises:
        ValueError: an unknown source, no text, text that is not UTF-8 (named, with the byte).
    """
    kind, _, argument = source.partition(":")
    if kind not in _SOURCES:
        near = difflib.get_close_matches(kind, _SOURCES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"unknown text source {source!r}: expected one of {', '.join(_SOURCES.values())}{hint}")
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise UserError(f"data.{name} must be in (0, 1), got {fraction}")
    if validation_fraction + test_fraction >= 1:
        raise UserError("data.validation_fraction and data.test_fraction leave nothing to learn from")
    if kind == "python-reference":
        return _in_memory(source, _python_reference(), validation_fraction, test_fraction, seed)
    if not argument:
        raise UserError(f"--data {kind} needs a name: {_SOURCES[kind]}")
    if kind == "text":
        return _files(Path(argument).expanduser(), validation_fraction, test_fraction)
    return _tables(kind, argument, text_column, validation_fraction, test_fraction, seed, streaming)


def _python_reference() -> list[str]:
    from pydoc_data.topics import topics  # 700 kB of text, of no use to the other sources

    return [topics[name] for name in sorted(topics)]


def _in_memory(
    name: str, documents: list[str], validation_fraction: float, test_fraction: float, seed: int
) -> TextSplits:
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise UserError(f"{name} holds no text")
    order = np.random.default_rng(seed).permutation(len(documents))
    held = [max(1, round(fraction * len(documents))) for fraction in (validation_fraction, test_fraction)]
    if sum(held) >= len(documents):
        raise UserError(f"{name} has {len(documents)} documents: too few to hold some out")
    bounds = np.cumsum([0, *held])
    validation, test, train = np.split(order, bounds[1:])

    def part(chosen: np.ndarray) -> TextPart:
        return TextPart.of([documents[i] for i in chosen])

    return TextSplits(name, part(train), part(validation), part(test))


# -- files ------------------------------------------------------------------------------------------------------------


def _files(root: Path, validation_fraction: float, test_fraction: float) -> TextSplits:
    if root.is_dir():
        parts = _named_parts(root, validation_fraction, test_fraction)
        if parts:
            return parts
        paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".txt", ".md"))
    else:
        paths = [root]
    if not paths or not all(path.is_file() for path in paths):
        raise UserError(f"no text file at {root}")
    total = sum(path.stat().st_size for path in paths)
    if total == 0:
        raise UserError(f"{root} is empty: there is no text to learn from")
    train, validation, test = _cut(paths, 1 - validation_fraction - test_fraction, 1 - test_fraction)
    return TextSplits(str(root), train, validation, test)


def _cut(paths: list[Path], *places: float) -> list[TextPart]:
    """The bytes of the files, one after the other, cut at these fractions of them."""
    total = sum(path.stat().st_size for path in paths)
    ends = [*(round(total * place) for place in places), total]
    return [_byte_range(paths, start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _named_parts(root: Path, validation_fraction: float, test_fraction: float) -> TextSplits | None:
    """Files train*, val*, test*; of the last two one may be missing, and is cut from the end of the training text."""
    found = {part: sorted(root.glob(f"{part}*.txt")) for part in ("train", "val", "test")}
    if not found["train"] or not (found["val"] or found["test"]):
        return None
    parts = {part: _cut(paths)[0] for part, paths in found.items()}
    for part, fraction in (("val", validation_fraction), ("test", test_fraction)):
        if not found[part]:
            parts["train"], parts[part] = _cut(found["train"], 1 - fraction)
    return TextSplits(str(root), parts["train"], parts["val"], parts["test"])


def _byte_range(paths: list[Path], start: int, end: int) -> TextPart:
    """Bytes start to end of the files one after the other, a document for each file touched."""

    def documents() -> Iterator[Document]:
        offset = 0
        for path in paths:
            size = path.stat().st_size
            first, last = max(start - offset, 0), min(end - offset, size)
            if first < last:
                yield partial(_read_range, path, first, last)
            offset += size

    return TextPart(documents)


def _read_range(path: Path, first: int, last: int) -> Iterator[str]:
    """Text of the bytes first to last, both moved forward to the next character border."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        first, last = _next_border(file, first), _next_border(file, last)
        file.seek(first)
        position = first
        carry = ""
        while position < last:
            raw = file.read(min(_PIECE, last - position))
            if not raw:
                break
            before = position - len(decoder.getstate()[0])
            position += len(raw)
            try:
                text = carry + decoder.decode(raw, final=position >= last)
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise UserError(
                    f"{path} is not UTF-8: byte 0x{byte:02x} at offset {before + error.start}; convert it to UTF-8"
                ) from error
            # cut before the last space, so that no word is split where a tokenizer would not split it
            cut = text.rfind(" ") if position < last else len(text)
            cut = cut if cut > 0 else len(text)
            carry = text[cut:]
            if text[:cut]:
                yield text[:cut]
        if carry:
            yield carry


def _next_border(file: Any, position: int) -> int:
    file.seek(position)
    following = file.read(3)
    for extra, byte in enumerate(following):
        if byte & 0xC0 != 0x80:
            return position + extra
    return position + len(following)


# -- tables -----------------------------------------------------------------------------------------------------------


def load_tables(kind: str, argument: str, streaming: bool = False) -> dict[str, Any]:
    """Tables of a csv or json file, of a folder of those, or of a hub data set: part name -> datasets.Dataset.

    Raises:
        ValueError: nothing there, or files that are no tables.
    """
    from datasets import load_dataset  # heavy

    try:
        if kind == "hub":
            name, _, configuration = argument.partition(":")
            return dict(load_dataset(name, configuration or None, streaming=streaming))
        root = Path(argument).expanduser()
        suffixes = (".csv",) if kind == "csv" else (".json", ".jsonl")
        if root.is_file():
            return dict(load_dataset(kind, data_files={"train": str(root)}))
        files = {
            part: [str(p) for p in sorted(root.glob(f"{stem}*")) if p.suffix in suffixes]
            for part, stem in (("train", "train"), ("validation", "val"), ("test", "test"))
        }
        files = {part: paths for part, paths in files.items() if paths}
        if "train" not in files:
            raise UserError(f"no {kind} file at {root}: expected a file, or a folder with train{suffixes[0]}")
        return dict(load_dataset(kind, data_files=files))
    except ValueError:
        raise
    except Exception as error:
        cause = error.__cause__ or error  # what the library was told, not that it was told something
        raise UserError(f"the data set {kind}:{argument} could not be read: {cause}") from error


def _tables(
    kind: str,
    argument: str,
    text_column: str | None,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    streaming: bool,
) -> TextSplits:
    tables = load_tables(kind, argument, streaming)
    if "train" not in tables:
        raise UserError(f"{kind}:{argument} has no split named train, has {', '.join(tables)}")
    if text_column is not None and text_column not in (tables["train"].column_names or [text_column]):
        listed = ", ".join(tables["train"].column_names)
        raise UserError(f"{kind}:{argument} has no column {text_column!r}, it has {listed}")
    column = text_column or _only_text_column(tables["train"], f"{kind}:{argument}")

    def part(table: Any) -> TextPart:
        return TextPart(lambda: (partial(_once, str(row[column])) for row in table if row[column]))

    train, validation, test = tables["train"], tables.get("validation"), tables.get("test")
    if not hasattr(train, "__len__"):
        held = 1000  # rows at the head of a stream whose length nobody knows
        if validation is None:
            validation, train = train.take(held), train.skip(held)
        if test is None:
            test, train = train.take(held), train.skip(held)
        return TextSplits(f"{kind}:{argument}", part(train), part(validation), part(test))
    for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if locals()[name] is None:
            halves = train.train_test_split(test_size=max(1, round(fraction * len(train))), seed=seed)
            train = halves["train"]
            if name == "test":
                test = halves["test"]
            else:
                validation = halves["test"]
    return TextSplits(f"{kind}:{argument}", part(train), part(validation), part(test))


def _only_text_column(table: Any, name: str) -> str:
    columns = list(table.column_names or [])
    if "text" in columns:
        return "text"
    if len(columns) == 1:
        return columns[0]
    raise UserError(f"{name} has the columns {', '.join(columns)}: say which holds the text, --set data.text_column=")


__all__ = ["TextPart", "TextSplits", "load_tables", "load_text_source"]
