"""Text in documents that are read in pieces, and the three parts of a source."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

Document = Callable[[], Iterator[str]]  # a document, read in pieces


def once(text: str) -> Iterator[str]:
    """A text as its only piece."""
    yield text


@dataclass(frozen=True)
class TextPart:
    """Documents of one part of a source. documents() gives the same documents each time that it is called."""

    documents: Callable[[], Iterator[Document]]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TextPart":
        """One document a text; the texts must be iterable more than once."""
        return cls(lambda: (partial(once, text) for text in texts))

    def pieces(self) -> Iterator[str]:
        """All text, piece by piece."""
        for document in self.documents():
            yield from document()

    def read(self) -> str:
        """All text in one string; only for a part that is known to be small."""
        return "".join(self.pieces())

    def digest(self) -> str:
        """32 hexadecimal digits that differ for another text; all of the text is read for them."""
        hashed = hashlib.blake2b(digest_size=16)
        for document in self.documents():
            for piece in document():
                hashed.update(piece.encode("utf-8"))
            hashed.update(b"\xff")  # in no text: the end of a document
        return hashed.hexdigest()


@dataclass(frozen=True)
class TextSplits:
    """Training, validation and test text of a source.

    state: JSON data that differ when the text has changed: size and time of its files, or the fingerprints of a data
    set; None where only the text itself shows it. notes: sentences for the user about what was decided.
    """

    name: str
    train: TextPart
    validation: TextPart
    test: TextPart
    state: list[tuple[str, int, int]] | dict[str, str] | None = None
    notes: tuple[str, ...] = ()


__all__ = ["Document", "TextPart", "TextSplits", "once"]
