"""From text to tokens: a tokenizer trained on the spot, tokens packed to the context length and kept on disk.

Shapes: n tokens of a part, T context length.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ...errors import UserError
from ..files import staged
from ..keys import Key
from .parts import TextPart
from .reading import as_text, fingerprint

_FORMAT = 2  # of the token files, and of how a text is cut into pieces: a new number makes all tokens anew
ENCODER_SPECIALS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
DECODER_SPECIALS = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


def train_tokenizer(
    text: TextPart, vocab_size: int, is_decoder: bool, model_max_length: int
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on text; it loses nothing, so bits per byte are exact.

    Args:
        vocab_size: tokens at most, special ones and the 256 bytes included.
        is_decoder: one end-of-text token, else RoBERTa's five special tokens and its template.

    Raises:
        ValueError: a vocabulary smaller than the bytes and special tokens; no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # only when training one

    specials = DECODER_SPECIALS if is_decoder else ENCODER_SPECIALS
    tokens = list(dict.fromkeys(specials.values()))
    if vocab_size < 256 + len(tokens):
        raise UserError(f"data.vocab_size must be at least {256 + len(tokens)}, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = text.pieces()
    first = next(pieces, None)
    if first is None:
        raise UserError("there is no text to train a tokenizer on")
    tokenizer.train_from_iterator(chain([first], pieces), trainer)
    if not is_decoder:
        ids = tokenizer.get_vocab()
        end, start = ("</s>", ids["</s>"]), ("<s>", ids["<s>"])
        tokenizer.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=model_max_length, **specials)


def pack_tokens(text: TextPart, tokenizer: PreTrainedTokenizerBase, folder: Path, key: dict[str, Any]) -> "TokenFile":
    """Tokenise a part once into a file of the folder, with one end-of-text token after each document.

    A text that spells a special token is read as text, so those ends are the only special tokens in the file.

    Args:
        key: what the text depends on (source, split, seed, ...). A whole file with the same key, made with a tokenizer
            of the same fingerprint, is used again.
    """
    reader = as_text(tokenizer)
    about = json.dumps([_FORMAT, key, fingerprint(reader)], sort_keys=True)
    path = folder / f"tokens-{hashlib.blake2b(about.encode(), digest_size=16).hexdigest()}.bin"
    return _kept(path) or _written(text, reader, path)


def _kept(path: Path) -> "TokenFile | None":
    """The tokens of a file that is as long as the .json beside it says; None where it is not, or either is missing."""
    try:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        tokens = TokenFile(path, int(content["tokens"]), int(content["bytes"]))
        is_whole = path.stat().st_size == tokens.num_tokens * np.dtype(np.uint32).itemsize
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tokens if is_whole else None


def _written(text: TextPart, reader: PreTrainedTokenizerBase, path: Path) -> "TokenFile":
    path.parent.mkdir(parents=True, exist_ok=True)
    num_tokens = num_bytes = 0
    with staged(path) as file:
        for ids, size in _encode(text, reader):
            file.write(ids.tobytes())
            num_tokens += len(ids)
            num_bytes += size
    with staged(path.with_suffix(".json")) as file:  # written last, because it says that the other file is whole
        file.write(json.dumps({"tokens": num_tokens, "bytes": num_bytes}).encode())
    return TokenFile(path, num_tokens, num_bytes)


def _encode(text: TextPart, reader: PreTrainedTokenizerBase) -> Iterator[tuple[np.ndarray, int]]:
    """(token ids, bytes of text) piece by piece."""
    end = reader.eos_token_id
    for document in text.documents():
        for piece in document():
            ids = reader(piece, add_special_tokens=False, verbose=False)["input_ids"]
            yield np.asarray(ids, dtype=np.uint32), len(piece.encode("utf-8"))
        if end is not None:
            yield np.asarray([end], dtype=np.uint32), 0


class TokenFile:
    """Tokens of a part, on disk.

    Args:
        path: a file of n numbers of type uint32. num_tokens: n. num_bytes: of the text that they encode, in UTF-8.
    """

    def __init__(self, path: Path, num_tokens: int, num_bytes: int):
        self.path, self.num_tokens, self.num_bytes = path, num_tokens, num_bytes

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text in UTF-8 that a token stands for, on average."""
        return self.num_bytes / max(self.num_tokens, 1)

    def open(self) -> np.ndarray:
        """The tokens, (n,) uint32; the file is mapped, so that only what is used is read."""
        return np.memmap(self.path, dtype=np.uint32, mode="r", shape=(self.num_tokens,))


class PackedTokens(Dataset):
    """Chunks of T tokens of a TokenFile; neighbours share one token, so that every token but the first is predicted.

    Items {"input_ids" (T,), "key"}.

    Raises:
        ValueError: fewer tokens than one chunk.
    """

    def __init__(self, tokens: TokenFile, context_length: int):
        if tokens.num_tokens < context_length:
            raise UserError(
                f"the text has {tokens.num_tokens} tokens, fewer than one context of {context_length}: give more text "
                "or lower data.context_length"
            )
        self.tokens, self.context_length = tokens, context_length
        self._mapped: np.ndarray | None = None

    def __len__(self) -> int:
        return (self.tokens.num_tokens - 1) // (self.context_length - 1)

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if self._mapped is None:
            self._mapped = self.tokens.open()
        start = index * (self.context_length - 1)
        chunk = self._mapped[start : start + self.context_length].astype(np.int64)
        return {"input_ids": torch.from_numpy(chunk), "key": (epoch, index)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # workers map the file themselves


class PackedStream(IterableDataset):
    """Chunks of T tokens from text of unknown length, packed as it arrives; in the order of the text.

    Loader workers read all of it and take turns with the chunks, so that each chunk comes once.
    """

    def __init__(self, text: TextPart, tokenizer: PreTrainedTokenizerBase, context_length: int):
        self.text, self.tokenizer, self.context_length = text, tokenizer, context_length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        index, waiting = 0, np.zeros(0, dtype=np.int64)
        worker = get_worker_info()
        turn, turns = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        for ids, _ in _encode(self.text, as_text(self.tokenizer)):
            waiting = np.concatenate([waiting, ids.astype(np.int64)])
            while len(waiting) >= self.context_length:
                if index % turns == turn:
                    yield {"input_ids": torch.from_numpy(waiting[: self.context_length].copy()), "key": (0, index)}
                waiting, index = waiting[self.context_length - 1 :], index + 1


class CausalCollator:
    """Items of PackedTokens to {"input_ids", "labels"}, (B, T) each; the model shifts the labels itself."""

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        input_ids = torch.stack([item["input_ids"] for item in items])
        return {"input_ids": input_ids, "labels": input_ids.clone()}


__all__ = [
    "CausalCollator",
    "PackedStream",
    "PackedTokens",
    "TokenFile",
    "pack_tokens",
    "train_tokenizer",
]
