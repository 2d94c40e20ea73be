"""Text from a causal language model, streamed, with the context's limit said instead of passed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from ..errors import UserError
from .language_models import check_vocabulary, is_causal, load_tokenizer
from .opening import open_model


class _Lines(TextStreamer):
    """Hands finished pieces of text to a function."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.write(text)


@torch.no_grad()
def generate_text(
    folder: str | Path,
    prompt: str,
    max_new_tokens: int = 100,
    temperature: float = 0.8,
    top_k: int = 50,
    num_beams: int = 1,
    seed: int = 0,
    slide: bool = False,
    write: Callable[[str], None] | None = None,
    tokenizer_source: str | None = None,
) -> str:
    """Continue a prompt.

    Args:
        temperature: 0 is greedy. top_k: 0 is all. num_beams: more than one searches instead of sampling.
        slide: go on past the context by forgetting its first half; else generation stops at the limit.
        tokenizer_source: folder or hub name of a tokenizer; None is the one saved beside the model.
        write: receives the text as it comes (not with beams).

    Returns:
        the continuation, without the prompt.

    Raises:
        ValueError: a prompt longer than the context, no causal language model, values out of range.
    """
    if max_new_tokens < 1 or temperature < 0 or top_k < 0 or num_beams < 1:
        raise UserError("max_new_tokens and num_beams must be at least 1, temperature and top_k at least 0")
    model, tokenizer = _open(folder, tokenizer_source or folder)
    limit = getattr(model.config, "max_sequence_length", None) or model.config.max_position_embeddings
    tokens = _tokens_of(prompt, tokenizer, limit).to(model.device)
    options = {**_decoding(temperature, top_k, num_beams), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(seed)
    pieces: list[str] = []
    while max_new_tokens > 0:
        room = limit - tokens.shape[1]
        if room <= 0:
            if not slide:
                break
            tokens = tokens[:, -max(limit // 2, 1) :]
            continue
        streamer = _Lines(tokenizer, write) if write is not None and num_beams == 1 else None
        made = cast(Any, model).generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=min(max_new_tokens, room),
            streamer=streamer,
            **options,
        )
        new = made[:, tokens.shape[1] :]
        pieces.append(str(tokenizer.decode(new[0], skip_special_tokens=True)))
        max_new_tokens -= new.shape[1]
        tokens = made
        if new.shape[1] == 0 or new[0, -1].item() == tokenizer.eos_token_id:
            break
    text = "".join(pieces)
    if write is not None and num_beams > 1:
        write(text)
    return text


def _open(folder: str | Path, tokenizer_source: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and a tokenizer that fits it.

    Raises:
        UserError: a masked one, or a tokenizer with more tokens than the model.
    """
    if not is_causal(folder):
        raise UserError(f"{folder} holds a masked language model, which fills gaps: it does not continue a text")
    model, tokenizer = open_model(folder, kind=AutoModelForCausalLM), load_tokenizer(tokenizer_source)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return model, tokenizer


def _decoding(temperature: float, top_k: int, num_beams: int) -> dict[str, Any]:
    """What `generate` is told of sampling; beams and a temperature of 0 do not sample."""
    if temperature > 0 and num_beams == 1:
        return {"num_beams": num_beams, "do_sample": True, "temperature": temperature, "top_k": top_k}
    return {"num_beams": num_beams, "do_sample": False}


def _tokens_of(prompt: str, tokenizer: Any, limit: int) -> torch.Tensor:
    """The tokens of a prompt, (1, n); of an empty one the token that begins a text.

    Raises:
        UserError: more of them than the context holds.
    """
    tokens = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    if tokens.shape[1] == 0:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        tokens = torch.tensor([[start]])
    if tokens.shape[1] > limit:
        raise UserError(f"the prompt has {tokens.shape[1]} tokens, the context holds {limit}: shorten it")
    return tokens


__all__ = ["generate_text"]
