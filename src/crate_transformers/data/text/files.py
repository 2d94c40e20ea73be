"""Running text from a file, or from a folder of .txt and .md files.

Text is read in pieces, so a file larger than memory, or of one endless line, is no different from a small one.
"""

import codecs
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ...errors import UserError
from ..files import file_states, first_names, not_utf8, open_bytes, size_of, visible_files
from ..parts import by_part, check_parts
from .parts import Document, TextPart, TextSplits

_PIECE = 1 << 16  # bytes read at a time; tokenizing pieces of 1 MB left the heap in fragments that grew with the text
_SUFFIXES = (".txt", ".md")


def load_text_files(root: Path, validation_fraction: float, test_fraction: float) -> TextSplits:
    """The text of a file or folder; held-out text is a contiguous part at its end, or files named after the parts.

    A folder with a training file and a validation or test file (see `parts.part_of`) is read by parts: of the last
    two one may be missing, and is cut from the end of the training text. The files of any other folder are one text.

    Raises:
        ValueError: no text, files beside named parts that belong to none, text that is not UTF-8 (when it is read).
    """
    paths = [p for p in visible_files(root) if p.suffix.lower() in _SUFFIXES] if root.is_dir() else [root]
    if not paths or not (root.is_dir() or root.is_file()):
        raise UserError(f"no text file at {root}")
    state = file_states(paths)
    if not sum(size for _, size, _ in state):
        raise UserError(f"{root} is empty: there is no text to learn from")
    named, others = by_part(root, paths) if root.is_dir() else ({}, paths)
    notes: tuple[str, ...] = ()
    if "train" in named and len(named) > 1:
        if others:
            raise UserError(
                f"{root} has files for the parts {', '.join(named)}, and {first_names(others, root)} for none: name "
                "them train*, val* or test*, or move them away"
            )
        check_parts(root, named, "text")
        train, validation, test = _named_parts(named, validation_fraction, test_fraction)
    elif named and not others and "train" not in named:
        raise UserError(f"{root} has {first_names(paths, root)} and no training file: expected one named train*")
    else:
        if named and len(paths) > 1:
            listed = first_names([path for found in named.values() for path in found], root)
            notes = (f"{root}: all files are read as one text, {listed} too: there is no train* with a val* or test*",)
        train, validation, test = _cut(paths, 1 - validation_fraction - test_fraction, 1 - test_fraction)
    return TextSplits(str(root), train, validation, test, state, notes)


def _named_parts(
    found: dict[str, list[Path]], validation_fraction: float, test_fraction: float
) -> tuple[TextPart, TextPart, TextPart]:
    parts = {part: _cut(paths)[0] for part, paths in found.items()}
    for part, paths in found.items():
        if not any(map(size_of, paths)):
            raise UserError(f"the {part} part is empty: {first_names(paths)}")
    for part, fraction in (("validation", validation_fraction), ("test", test_fraction)):
        if part not in found:
            parts["train"], parts[part] = _cut(found["train"], 1 - fraction)
    return parts["train"], parts["validation"], parts["test"]


def _cut(paths: list[Path], *places: float) -> list[TextPart]:
    """The bytes of the files, one after the other, cut at these fractions of them."""
    total = sum(map(size_of, paths))
    ends = [*(round(total * place) for place in places), total]
    return [_byte_range(paths, start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _byte_range(paths: list[Path], start: int, end: int) -> TextPart:
    """Bytes start to end of the files one after the other, a document for each file touched."""

    def documents() -> Iterator[Document]:
        """What of each file lies within the bytes."""
        offset = 0
        for path in paths:
            size = size_of(path)
            first, last = max(start - offset, 0), min(end - offset, size)
            if first < last:
                yield partial(_read_range, path, first, last)
            offset += size

    return TextPart(documents)


def _read_range(path: Path, first: int, last: int) -> Iterator[str]:
    """Text of the bytes first to last, both moved forward to the next character border; without a byte-order mark."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as file:
        first, last = _next_border(file, first), _next_border(file, last)
        file.seek(0)
        if file.read(3) == codecs.BOM_UTF8:
            first = max(first, 3)
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
                raise not_utf8(path, f"at offset {before + error.start}", error) from error
            # cut before the last space, so that no word is split where a tokenizer would not split it
            cut = text.rfind(" ") if position < last else len(text)
            cut = cut if cut > 0 else len(text)
            carry = text[cut:]
            if text[:cut]:
                yield text[:cut]
        if carry:
            yield carry


def _next_border(file: BinaryIO, position: int) -> int:
    """The first place from `position` on at which a character of UTF-8 begins."""
    file.seek(position)
    following = file.read(3)
    for extra, byte in enumerate(following):
        if byte & 0xC0 != 0x80:
            return position + extra
    return position + len(following)


__all__ = ["load_text_files"]
