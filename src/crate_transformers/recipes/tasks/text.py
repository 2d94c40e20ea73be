"""The options that tasks on text share."""

from dataclasses import dataclass

from ..limits import Limits
from ..options import DataOptions, option


@dataclass
class TextData(DataOptions):
    """Where text comes from and how it becomes tokens.

    tokenizer: a folder or hub name; None is that of `model.from`, or one of `vocab_size` tokens that is trained on the
    data. context_length: tokens a sample; None is as many as the model takes.
    """

    tokenizer: str | None = None
    vocab_size: int = option(4096, Limits(1))
    context_length: int | None = option(None, Limits(2))
    text_column: str | None = None


__all__ = ["TextData"]
