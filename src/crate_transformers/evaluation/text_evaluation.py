"""Perplexity and bits per byte of a saved language model on held-out text."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from ..data.text import load_text_source
from ..data.text.masking import MaskingCollator
from ..data.text.tokens import CausalCollator, PackedTokens, pack_tokens
from ..errors import UserError
from ..recipes.schema import Recipe
from ..recipes.tasks.language_modeling import MaskedLanguageData
from .compression import text_metrics, xz_bits_per_byte
from .language_models import check_vocabulary, is_causal, load_tokenizer
from .opening import open_model


@torch.no_grad()
def evaluate_language_model(
    folder: str | Path,
    data: MaskedLanguageData,
    split: str,
    recipe: Recipe | None = None,
    batch_size: int = 16,
    tokenizer_source: str | None = None,
) -> dict[str, Any]:
    """Loss, perplexity and bits per byte of a language model on one part of a text source.

    Args:
        data: where the text comes from. split: "train", "validation" or "test".
        recipe: of the run that made the model; its seed splits the text.
        tokenizer_source: folder or hub name of a tokenizer; None is the one saved beside the model.

    Returns:
        split, bytes, tokens, loss (nats a token), perplexity, bits per byte, and those of `xz -9` on the same bytes.

    Raises:
        ValueError: the split is unknown, the model is no language model, the tokenizer does not fit, or the source
            cannot be read.
    """
    if split not in ("train", "validation", "test"):
        raise UserError(f"split must be train, validation or test, got {split!r}")
    causal = is_causal(folder)
    model = open_model(folder, kind=AutoModelForCausalLM if causal else AutoModelForMaskedLM)
    tokenizer = load_tokenizer(tokenizer_source or folder)
    check_vocabulary(tokenizer, model.config.vocab_size)
    seed = recipe.seed if recipe is not None else 0
    splits = load_text_source(
        data.source, data.validation_fraction, data.test_fraction, seed, data.text_column, data.streaming
    )
    part = getattr(splits, split)
    config = model.config
    limit = getattr(config, "max_sequence_length", None) or config.max_position_embeddings
    with tempfile.TemporaryDirectory() as cache:
        tokens = pack_tokens(part, tokenizer, Path(cache), {"evaluate": split})
        chunks = PackedTokens(tokens, min(data.context_length or limit, limit))
        collate = CausalCollator() if causal else MaskingCollator(tokenizer, data.mask_probability, seed)
        nats, count = 0.0, 0
        for start in range(0, len(chunks), batch_size):
            batch = collate([chunks[i] for i in range(start, min(start + batch_size, len(chunks)))])
            input_ids, labels = (batch[name].to(model.device) for name in ("input_ids", "labels"))
            logits = model(input_ids=input_ids).logits.float()
            if causal:
                logits, labels = logits[:, :-1], labels[:, 1:]
            nats += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum").item()
            count += int((labels != -100).sum())
        loss = nats / max(count, 1)
        return {
            "split": split,
            "bytes": tokens.num_bytes,
            "tokens": tokens.num_tokens,
            "loss": loss,
            **text_metrics(loss, tokens, causal),
            "xz_bits_per_byte": xz_bits_per_byte(part),
        }


__all__ = ["evaluate_language_model"]
