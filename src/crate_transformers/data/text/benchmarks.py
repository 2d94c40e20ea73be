"""Text that language models are compared on: WikiText, the Penn Treebank, LAMBADA; by path.

    wikitext:PATH   a file of WikiText-2 or -103 (wiki.test.tokens, wiki.test.raw), or the folder with its three parts
    ptb:PATH        a file of the Penn Treebank in Mikolov's form (ptb.test.txt), or its folder
    lambada:PATH    a file of JSON lines, {"text": passage}; the last word of each passage is to be guessed

The first two were published for models of whole words: punctuation stands apart, "@-@" is a hyphen within a word, rare
words are "<unk>". A model of sub-words learnt ordinary text, so the words are first joined again ("detokenized") by the
rules below. The loss is of the joined text, the number of words that of the file.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...files import user_path

_JOINED: dict[str, tuple[tuple[str, str], ...]] = {
    "wikitext": (
        (r" @([-,.])@ ", r"\1"),  # within a word or number
        (r" ([.,:;!?])(?=\s|$)", r"\1"),
        (r"([(\[{]) ", r"\1"),
        (r" ([)\]}])", r"\1"),
        (r'"[ ]([^"\n]*?)[ ]"', r'"\1"'),
        (r" '(s|t|re|ve|ll|d|m)(?=\s|$)", r"'\1"),
        (r"\$ (?=\d)", "$"),
        (r"(?<==) (?==)", ""),  # headings
        (r"[ ]*\n[ ]*", "\n"),
    ),
    "ptb": (
        (r" n't(?=\s|$)", "n't"),
        (r" '(s|re|ve|ll|d|m)(?=\s|$)", r"'\1"),
        (r"\$ (?=N|\d)", "$"),
        (r"(?<=N) %", "%"),
        (r"[ ]*\n[ ]*", "\n"),
    ),
}
_FILES = {
    "wikitext": ("wiki.{}.tokens", "wiki.{}.raw"),
    "ptb": ("ptb.{}.txt",),
}
WORD_SOURCES = tuple(_JOINED)
TEXT_BENCHMARKS = (*WORD_SOURCES, "lambada")


@dataclass(frozen=True)
class WordText:
    """Text of whole words, joined for models of sub-words.

    Attributes:
        text: joined by the rules of `detokenizer`. detokenizer: "wikitext" or "ptb".
        words: of the file, by white space. lines: of the file; models of words predict the end of each one too.
        unknown: words of the file that are "<unk>".
    """

    text: str
    detokenizer: str
    words: int
    lines: int
    unknown: int


def is_text_benchmark(source: str) -> bool:
    """Whether a source is one of those of this file, by what stands before its colon."""
    return source.partition(":")[0] in TEXT_BENCHMARKS


def joined(text: str, kind: str) -> str:
    """Text of whole words as ordinary text.

    Args:
        kind: whose rules, "wikitext" or "ptb".

    Example:
        >>> joined(" = = Work = = \\n It 's a well @-@ known one ( of 1 @,@ 000 ) . \\n", "wikitext")
        "== Work ==\\nIt's a well-known one (of 1,000).\\n"
    """
    for pattern, replacement in _JOINED[kind]:
        text = re.sub(pattern, replacement, text)
    return text.lstrip(" ")


def read_word_text(source: str, split: str) -> WordText:
    """Read a part of WikiText or of the Penn Treebank.

    Args:
        source: "wikitext:PATH" or "ptb:PATH". split: "train", "validation" or "test", of a folder; a file is "test".

    Raises:
        UserError: no such file, a file of no words, or text that is not UTF-8.
    """
    kind, _, argument = source.partition(":")
    path = _one_file(source)
    if path.is_dir():
        word = {"validation": "valid"}.get(split, split)
        names = [name.format(word) for name in _FILES[kind]]
        found = [path / name for name in names if (path / name).is_file()]
        if len(found) != 1:
            raise UserError(f"{path} must hold one of {' and '.join(names)}, it has {len(found)}: name the file itself")
        path = found[0]
    elif split != "test":
        raise UserError(f"{argument} is a file, so it is what is evaluated: leave --split out, or name the folder")
    text = _read(path)
    words = text.split()
    if not words:
        raise UserError(f"{path} holds no word")
    return WordText(joined(text, kind), kind, len(words), len(text.splitlines()), words.count("<unk>"))


def read_lambada(source: str) -> list[tuple[str, str]]:
    """(context, last word) of each passage; the word begins with the space that parts them.

    Args:
        source: "lambada:PATH" of a file of JSON lines.

    Raises:
        UserError: no such file, a line that is no JSON object with a text of two words or more; named.
    """
    path = _one_file(source)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file of JSON lines")
    passages = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: no JSON ({error.msg})") from error
        text = row.get("text") if isinstance(row, dict) else None
        context, space, word = text.rstrip().rpartition(" ") if isinstance(text, str) else ("", "", "")
        if not (context.strip() and word):
            raise UserError(f'{path}, line {number}: expected {{"text": ...}} with two words or more')
        passages.append((context, space + word))
    if not passages:
        raise UserError(f"{path} holds no passage")
    return passages


def _one_file(source: str) -> Path:
    kind, _, argument = source.partition(":")
    if not argument:
        raise UserError(f"--data {kind} needs a path: {kind}:PATH")
    path = user_path(argument)
    if not path.exists():
        raise UserError(f"no file at {path}")
    return path


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x}): convert it") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


__all__ = [
    "TEXT_BENCHMARKS",
    "WORD_SOURCES",
    "WordText",
    "is_text_benchmark",
    "joined",
    "read_lambada",
    "read_word_text",
]
