"""Tokenizers made ready to read data: none takes a part of a text for a special token, and each has a fingerprint.

A text may spell a special token (a page on tokenizers, a log of a chat). Taken for the token itself it would lose its
characters, end a document that goes on, or hide a word that nobody masked.
"""

import copy
import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def as_text(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer that finds no special token in what it reads; special tokens around a text stay.

    Special tokens are not looked for; and where the vocabulary itself holds one as a word or piece (WordLevel, Unigram,
    tokenizers that split at white space), its spelling is cut after its first character.
    """
    reader = copy.deepcopy(tokenizer)
    reader.split_special_tokens = True
    special = {str(token) for token in reader.added_tokens_decoder.values() if token.special}
    special = {token for token in special | set(reader.all_special_tokens) if len(token) > 1}
    if reader.is_fast:
        _cut_in_backend(reader.backend_tokenizer, special)
    elif hasattr(reader, "_tokenize"):
        whole = [token for token in special if token in reader._tokenize(token)]
        if whole:
            reader._tokenize = partial(_tokens_of_pieces, reader._tokenize, whole)
    return reader


def _cut_in_backend(backend: "Tokenizer", special: set[str]) -> None:
    from tokenizers import Regex, pre_tokenizers

    known = sorted(token for token in special if backend.model.token_to_id(token) is not None)
    if known:
        pattern = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in known)
        cut = pre_tokenizers.Split(Regex(pattern), behavior="merged_with_previous")
        before = backend.pre_tokenizer
        backend.pre_tokenizer = cut if before is None else pre_tokenizers.Sequence([before, cut])


def _tokens_of_pieces(tokenize: Callable[..., list[str]], whole: list[str], text: str, **options: object) -> list[str]:
    pattern = "|".join(f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in whole)
    return [token for piece in re.split(pattern, text) for token in tokenize(piece, **options)]


def fingerprint(reader: PreTrainedTokenizerBase) -> str:
    """32 hexadecimal digits that differ where two tokenizers may give one text different tokens.

    They depend on vocabulary, merges, normalizer, pre-tokenizer, added tokens, the token that ends a text and the
    class; they do not depend on the length of the context.
    """
    hashed = hashlib.blake2b(digest_size=16)
    about = [type(reader).__qualname__, reader.eos_token_id, reader.split_special_tokens]
    if reader.is_fast:
        backend = json.loads(reader.backend_tokenizer.to_str())
        about += [{name: value for name, value in backend.items() if name not in ("truncation", "padding")}]
    else:
        with tempfile.TemporaryDirectory() as folder:
            reader.save_pretrained(folder)
            for path in sorted(Path(folder).iterdir()):
                about += [path.name, hashlib.blake2b(path.read_bytes()).hexdigest()]
    hashed.update(json.dumps(about, sort_keys=True).encode())
    return hashed.hexdigest()


__all__ = ["as_text", "fingerprint"]
