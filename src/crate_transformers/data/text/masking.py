"""Dynamic masking for masked language models, as a function of (seed, epoch, sample)."""

from typing import Any

import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from ...errors import UserError
from ..keys import keyed_generator


class MaskingCollator:
    """Items {"input_ids" (T,), "key"} to {"input_ids", "labels"}, (B, T) each.

    Of the chosen tokens, 80 % become the mask token, 10 % a random one, 10 % stay; labels of the others are -100.

    Args:
        tokenizer: with a mask token. probability: of choosing a token. seed: of the choice.

    Raises:
        ValueError: a tokenizer without a mask token, a probability outside (0, 1).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, probability: float, seed: int):
        if tokenizer.mask_token is None:
            raise UserError("the tokenizer has no mask token: choose one that was made for masked language models")
        if not 0 < probability < 1:
            raise UserError(f"data.mask_probability must be in (0, 1), got {probability}")
        self.mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability)
        self.seed = seed

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        masked = []
        for item in items:
            with keyed_generator(self.seed, *item["key"]):
                masked.append(self.mask.torch_mask_tokens(item["input_ids"][None].clone()))
        input_ids, labels = (torch.cat(tensors) for tensors in zip(*masked, strict=True))
        return {"input_ids": input_ids, "labels": labels}


__all__ = ["MaskingCollator"]
