"""The options that tasks on text share."""

from dataclasses import dataclass

from ..limits import Limits
from ..options import DataOptions, option


@dataclass
class TextData(DataOptions):
    """The options of every task on text.

    Attributes:
        tokenizer: a folder or hub name; None is that of `model.from`, or a new one of `vocab_size` tokens, which is
            trained on the data.
        vocab_size: tokens of a new tokenizer.
        context_length: tokens of a sample; None is the model's limit.
        text_column: the column that holds the text, of data in tables; None finds it.
    """

    tokenizer: str | None = None
    vocab_size: int = option(4096, Limits(1))
    context_length: int | None = option(None, Limits(2))
    text_column: str | None = None


__all__ = ["TextData"]
