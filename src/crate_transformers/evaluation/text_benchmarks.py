"""A causal language model on WikiText, the Penn Treebank and LAMBADA, as the field reports them.

Perplexity by word of a text of n words, L lines and tokens t_1 ... t_m:

    word_perplexity                 = exp(-(sum_i log p(t_i | t_<i)) / n)
    word_perplexity_with_line_ends  = exp(-(sum_i log p(t_i | t_<i)) / (n + L))

The second counts the end of each line as a word, as models of whole words do, which predict "<eos>" there. A window
of T tokens slides over the text in strides of S: each token is predicted once, from at least T - S tokens before it but
for those of the first window. The first token follows the end-of-text token, where the tokenizer has one.

LAMBADA: the share of passages whose last word is predicted whole, each of its tokens the likeliest after those before.

Shapes: B windows, T tokens of a window, V tokens of the vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..data.text.benchmarks import read_lambada, read_word_text
from ..data.text.reading import as_text
from ..errors import UserError
from .class_metrics import RESAMPLES, bootstrap_intervals
from .language_models import check_vocabulary, is_causal, load_tokenizer
from .opening import open_model
from .progress import Progress, unchanged
from .samples_table import samples_table

_NUMBERS_AT_ONCE = 1 << 27  # of logits, in one forward pass


@dataclass(frozen=True, eq=False)
class CausalReader:
    """A causal language model, with its tokenizer.

    Attributes:
        reader: the tokenizer, which takes no part of a text for a special token. context: tokens at most.
    """

    model: PreTrainedModel
    reader: PreTrainedTokenizerBase
    context: int

    @classmethod
    def open(cls, folder: str | Path, tokenizer_source: str | None) -> "CausalReader":
        """Open the model of a folder or hub name, and its tokenizer or that of another source.

        Raises:
            UserError: it is no causal language model, or the tokenizer does not fit.
        """
        if not is_causal(folder):
            raise UserError(f"{folder} fills gaps: this text is for models that predict the next token")
        model = open_model(folder, kind=AutoModelForCausalLM)
        tokenizer = load_tokenizer(tokenizer_source or folder)
        config = model.config
        check_vocabulary(tokenizer, config.vocab_size)
        context = getattr(config, "max_sequence_length", None) or config.max_position_embeddings
        return cls(model, as_text(tokenizer), int(context))

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        return list(self.reader(text, add_special_tokens=False, verbose=False)["input_ids"])

    @property
    def batch_size(self) -> int:
        """Windows that are read at once."""
        return max(1, _NUMBERS_AT_ONCE // (self.context * self.model.config.vocab_size))

    @torch.no_grad()
    def log_probabilities(self, input_ids: Tensor) -> Tensor:
        """(B, T - 1, V): of the tokens 1 ... T - 1 of each window."""
        logits: Tensor = self.model(input_ids=input_ids.to(self.model.device)).logits
        return logits[:, :-1].float().log_softmax(dim=-1)


def evaluate_on_words(
    reader: CausalReader,
    source: str,
    split: str = "test",
    stride: int | None = None,
    progress: Progress = unchanged,
) -> dict[str, Any]:
    """Perplexity by word on WikiText or the Penn Treebank.

    Args:
        source, split: as `read_word_text` takes them.
        stride: tokens by which the window moves, from 1 to the context less one; None is half of the context.
        progress: passes batches on, and may show how many of them are done.

    Returns:
        split, words, lines, bytes (of the joined text), tokens, loss (nats a token), perplexity (by token),
        word_perplexity, word_perplexity_with_line_ends, bits_per_byte, detokenizer, context_length, stride, notes.

    Raises:
        UserError: the text cannot be read, or the stride does not fit.
    """
    content = read_word_text(source, split)
    stride = max(1, reader.context // 2) if stride is None else stride
    if not 1 <= stride < reader.context:
        raise UserError(f"--stride must be from 1 to {reader.context - 1}, below the model's context, got {stride}")
    end = reader.reader.eos_token_id
    tokens = ([] if end is None else [int(end)]) + reader.tokens(content.text)
    if len(tokens) < 2:
        raise UserError(f"{source} has {len(tokens)} tokens: there is nothing to predict")
    nats = _sliding_nats(reader, tokens, stride, progress)
    count, size = len(tokens) - 1, len(content.text.encode("utf-8"))
    notes = [
        f"words are joined by the rules of {content.detokenizer} before they are tokenized; "
        f"each token is predicted once, from at least {reader.context - stride} tokens but for the first window's",
    ]
    if end is None:
        notes.append("the tokenizer has no end of text: the first token is not predicted")
    if content.unknown:
        notes.append(f'{content.unknown} of the words are "<unk>", which the tokenizer spells as any other word')
    return {
        "split": split,
        "words": content.words,
        "lines": content.lines,
        "bytes": size,
        "tokens": count,
        "loss": nats / count,
        "perplexity": _exp(nats / count),
        "word_perplexity": _exp(nats / content.words),
        "word_perplexity_with_line_ends": _exp(nats / (content.words + content.lines)),
        "bits_per_byte": nats / math.log(2) / size,
        "detokenizer": content.detokenizer,
        "context_length": reader.context,
        "stride": stride,
        "notes": notes,
    }


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700.0))


def _windows(count: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, first): tokens start to end are read, those from first on are scored; each but token 0 is once."""
    start, first = 0, 1
    while first < count:
        end = min(start + context, count)
        yield start, end, first
        start, first = start + stride, end


def _sliding_nats(reader: CausalReader, tokens: Sequence[int], stride: int, progress: Progress) -> float:
    """-sum_i log p(t_i | its window), of all tokens but the first."""
    windows = list(_windows(len(tokens), reader.context, stride))
    whole = [window for window in windows if window[1] - window[0] == reader.context]  # all but perhaps the last
    size = reader.batch_size
    batches = [whole[i : i + size] for i in range(0, len(whole), size)]
    batches += [windows[len(whole) :]] if len(whole) < len(windows) else []
    ids, nats = torch.tensor(tokens), 0.0
    for batch in progress(batches, len(batches), "evaluating"):
        input_ids = torch.stack([ids[start:end] for start, end, _ in batch])
        logs = reader.log_probabilities(input_ids)
        taken = logs.gather(2, input_ids[:, 1:, None].to(logs.device))[..., 0]  # (B, T - 1)
        for row, (start, _, first) in zip(taken, batch, strict=True):
            nats -= float(row[first - start - 1 :].double().sum())
    return nats


def evaluate_lambada(
    reader: CausalReader, source: str, table: Path | None = None, progress: Progress = unchanged
) -> dict[str, Any]:
    """Accuracy of the last word on LAMBADA.

    Args:
        source: as `read_lambada` takes it.
        table: a comma-separated file to write, with a row a passage.
        progress: passes batches on, and may show how many of them are done.

    Returns:
        split, passages, accuracy in [0, 1], loss (nats a last word), word_perplexity, intervals, bootstrap, notes.

    Raises:
        UserError: the file cannot be read, or a word does not fit into the context.
    """
    passages = read_lambada(source)
    encoded = [_last_word(reader, *passage) for passage in passages]
    cut = sum(len(ids) > reader.context for ids, _ in encoded)
    encoded = [(ids[-reader.context :], length) for ids, length in encoded]
    if any(length >= len(ids) for ids, length in encoded):
        raise UserError(f"a last word has as many tokens as the model's context, {reader.context}")
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place][0]))  # like lengths together
    size = reader.batch_size
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    nats, guesses = np.zeros(len(encoded)), [""] * len(encoded)
    right = np.zeros(len(encoded), dtype=bool)
    for batch in progress(batches, len(batches), "evaluating"):
        for place, found in zip(batch, _score(reader, [encoded[place] for place in batch]), strict=True):
            nats[place], right[place], guesses[place] = found
    with samples_table(table) as add:
        add(
            [
                {
                    "passage": place,
                    "label": passages[place][1].strip(),
                    "predicted": guesses[place].strip(),
                    "right": bool(right[place]),
                    "nats": float(nats[place]),
                }
                for place in range(len(passages))
            ]
        )
    columns = {"accuracy": right.astype(float), "loss": nats}
    notes = ["no word is left out of the guesses; the predicted tokens are those after the right ones before them"]
    if cut:
        notes.append(f"{cut} passages are longer than the context of {reader.context} tokens: their beginnings are cut")
    return {
        "split": "test",
        "passages": len(passages),
        "accuracy": float(right.mean()),
        "loss": float(nats.mean()),
        "word_perplexity": _exp(float(nats.mean())),
        "intervals": bootstrap_intervals(columns),
        "bootstrap": {"over": "passages", "method": "percentile", "level": 0.95, "resamples": RESAMPLES, "seed": 0},
        "notes": notes,
    }


def _last_word(reader: CausalReader, context: str, word: str) -> tuple[list[int], int]:
    """(tokens of a passage, how many of them are of its last word).

    Where the tokens of the whole do not begin with those of the context, the two are tokenized apart.
    """
    whole, before = reader.tokens(context + word), reader.tokens(context)
    if whole[: len(before)] != before or len(whole) == len(before):
        whole = before + reader.tokens(word)
    length = len(whole) - len(before)
    if not (before and length):
        raise UserError(f"the tokenizer makes no token of {(context + word)[-40:]!r}")
    return whole, length


def _score(reader: CausalReader, batch: Sequence[tuple[list[int], int]]) -> Iterator[tuple[float, bool, str]]:
    """(nats of the last word, whether its tokens are the likeliest, the likeliest tokens as text) of each passage."""
    longest = max(len(ids) for ids, _ in batch)
    fill = batch[0][0][0]  # after the end of a passage, where no token that counts looks
    input_ids = torch.tensor([ids + [fill] * (longest - len(ids)) for ids, _ in batch])
    logs = reader.log_probabilities(input_ids)
    for row, (ids, length) in zip(logs, batch, strict=True):
        own = row[len(ids) - 1 - length : len(ids) - 1]  # (length, V)
        truth = torch.tensor(ids[-length:], device=own.device)
        likeliest = own.argmax(dim=-1)
        nats = F.nll_loss(own, truth, reduction="sum")
        yield float(nats), bool((likeliest == truth).all()), str(reader.reader.decode(likeliest.tolist()))


__all__ = ["CausalReader", "evaluate_lambada", "evaluate_on_words"]
