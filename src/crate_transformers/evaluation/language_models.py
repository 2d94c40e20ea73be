"""Questions about a saved language model before it is used: its kind, and whether a tokenizer fits it."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ..errors import UserError
from ..models.inputs import open_tokenizer
from ..models.opening import open_config


def is_causal(folder: str | Path) -> bool:
    """Whether the language model in a folder continues text (else it fills gaps).

    Raises:
        ValueError: the model is no language model.
    """
    config = open_config(folder)
    names = config.architectures or [] if hasattr(config, "vocab_size") else []
    if any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in names):
        return False
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return True
    raise UserError(
        f"{folder} holds a {', '.join(config.architectures or []) or config.model_type}, not a language model"
    )


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a folder or hub name.

    Raises:
        ValueError: there is no tokenizer.
    """
    try:
        return open_tokenizer(source)
    except UserError as error:
        raise UserError(f"{error}; name one with --set data.tokenizer= (crate generate: --tokenizer)") from error


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Check that a model has an embedding for every token.

    Raises:
        UserError: the tokenizer has more tokens than `vocab_size`.
    """
    if len(tokenizer) > vocab_size:
        raise UserError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {vocab_size}: they do not fit; use the model's own "
            "tokenizer, or set model.vocab_size"
        )


__all__ = ["check_vocabulary", "is_causal", "load_tokenizer"]
