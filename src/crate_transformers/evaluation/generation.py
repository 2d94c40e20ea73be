"""Text from a causal language model, streamed as it is generated, and never beyond the model's context."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from ..errors import UserError
from .language_models import check_vocabulary, is_causal, load_tokenizer
from .opening import open_model


class _Pieces(TextStreamer):
    """Passes each finished piece of text to a function."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Callable[[str], None]):
        super().__init__(cast(Any, tokenizer), skip_prompt=True, skip_special_tokens=True)
        self.write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.write(text)


@dataclass(frozen=True)
class GenerationSettings:
    """How to continue a prompt.

    Attributes:
        max_new_tokens: tokens to add, at most.
        temperature: of the sampling; 0 always takes the likeliest token.
        top_k: sample from the k likeliest tokens; 0 is all of them.
        num_beams: more than one searches with so many beams instead of sampling.
        seed: of the sampling.
        slide: go on past the context by forgetting its first half; else generation stops at its end.

    Raises:
        UserError: a value out of range.
    """

    max_new_tokens: int = 100
    temperature: float = 0.8
    top_k: int = 50
    num_beams: int = 1
    seed: int = 0
    slide: bool = False

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or self.top_k < 0 or self.num_beams < 1:
            raise UserError("max_new_tokens and num_beams must be at least 1, temperature and top_k at least 0")

    def decoding(self) -> dict[str, Any]:
        """The keywords of `generate` that decide the sampling; beams and a temperature of 0 do not sample."""
        if self.temperature > 0 and self.num_beams == 1:
            return {"num_beams": 1, "do_sample": True, "temperature": self.temperature, "top_k": self.top_k}
        return {"num_beams": self.num_beams, "do_sample": False}


@torch.no_grad()
def generate_text(
    folder: str | Path,
    prompt: str,
    settings: GenerationSettings | None = None,
    *,
    write: Callable[[str], None] | None = None,
    tokenizer_source: str | None = None,
) -> str:
    """Continue a prompt with the causal language model in a folder, or of a hub name.

    Args:
        tokenizer_source: folder or hub name of a tokenizer; None is the one saved beside the model.
        write: receives the text piece by piece as it is generated; with beams, the whole text at the end.

    Returns:
        the continuation, without the prompt.

    Raises:
        ValueError: the prompt is longer than the context, or there is no causal language model.
    """
    settings = settings or GenerationSettings()
    model, tokenizer = _open(folder, tokenizer_source or folder)
    limit = getattr(model.config, "max_sequence_length", None) or model.config.max_position_embeddings
    tokens = _tokens_of(prompt, tokenizer, limit).to(model.device)
    options = {**settings.decoding(), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(settings.seed)
    pieces: list[str] = []
    left = settings.max_new_tokens
    while left > 0:
        room = limit - tokens.shape[1]
        if room <= 0:
            if not settings.slide:
                break
            tokens = tokens[:, -max(limit // 2, 1) :]
            continue
        streamer = _Pieces(tokenizer, write) if write is not None and settings.num_beams == 1 else None
        made = cast(Any, model).generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=min(left, room),
            streamer=streamer,
            **options,
        )
        new = made[:, tokens.shape[1] :]
        pieces.append(str(tokenizer.decode(new[0], skip_special_tokens=True)))
        left -= new.shape[1]
        tokens = made
        if new.shape[1] == 0 or new[0, -1].item() == tokenizer.eos_token_id:
            break
    text = "".join(pieces)
    if write is not None and settings.num_beams > 1:
        write(text)
    return text


def _open(folder: str | Path, tokenizer_source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Open a causal language model and a tokenizer that fits it.

    Raises:
        UserError: the language model is a masked one, or the tokenizer has more tokens than the model.
    """
    if not is_causal(folder):
        raise UserError(f"{folder} holds a masked language model, which fills gaps: it does not continue a text")
    model, tokenizer = open_model(folder, kind=AutoModelForCausalLM), load_tokenizer(tokenizer_source)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return model, tokenizer


def _tokens_of(prompt: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> torch.Tensor:
    """The tokens of a prompt, (1, n). For an empty prompt it is the token that begins a text.

    Raises:
        UserError: the prompt has more tokens than the context holds.
    """
    encoded = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    tokens = cast(torch.Tensor, encoded["input_ids"])
    if tokens.shape[1] == 0:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        tokens = torch.tensor([[start]])
    if tokens.shape[1] > limit:
        raise UserError(f"the prompt has {tokens.shape[1]} tokens, the context holds {limit}: shorten it")
    return tokens


__all__ = ["GenerationSettings", "generate_text"]
