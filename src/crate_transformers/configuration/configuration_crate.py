"""Configuration of CRATE for text: one set of fields that spans the encoder and the decoder shell."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import UserError
from .layer_config import CrateLayerConfig
from .sizes import size_fields
from .validation import (
    check_labels,
    check_layer,
    check_not_negative,
    check_positive,
    check_probability,
    check_size,
    resolve_head_dim,
)

# what turns the defaults (the RoBERTa-like encoder of CRATE-BERT) into the nanoGPT-like decoder of CRATE-GPT2
_DECODER_SHELL: dict[str, Any] = {
    "vocab_size": 50304,
    "max_position_embeddings": 1024,
    "type_vocab_size": 0,
    "position_offset": 0,
    "embedding_layer_norm": False,
    "layer_norm_eps": 1e-5,
    "attention_output_bias": True,
    "lm_head_transform": False,
    "is_decoder": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": None,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
_OVERCOMPLETE: dict[str, Any] = {"dictionary_ratio": 4, "ista_steps": 2, "final_layer_norm": True}

_SHELLS: dict[str, dict[str, Any]] = {
    "bert": {},
    "gpt2": _DECODER_SHELL,
    "gpt2-overcomplete": {**_DECODER_SHELL, **_OVERCOMPLETE},
}


@strict
class CrateConfig(CrateLayerConfig):
    r"""Configuration of the text models ([`CrateModel`] and its heads); the defaults are CRATE-BERT-base.

    Every difference between the two public shells is a field, so that no forward pass asks which one it is:

    Args:
        vocab_size: tokens of the vocabulary.
        max_position_embeddings: rows of the position table.
        type_vocab_size: token types; 0 for none.
        position_offset: index of the first position in the table. `None` is pad_token_id + 1, and padding keeps
            pad_token_id, so 512 rows hold 510 tokens. 0: positions count from zero.
        embedding_layer_norm: LayerNorm on the embedded tokens.
        final_layer_norm: LayerNorm after the last layer.
        lm_head_transform: dense, gelu and LayerNorm before the tied decoder of the language-model head, and its bias.
        is_decoder: causal attention and a cache.
        layer_norm_eps: epsilon of the LayerNorms of the embedding, the head and the end.
        classifier_dropout: dropout of the task heads; `None` is hidden_dropout_prob.
        use_cache: whether a decoder keeps what it computed of earlier tokens while it generates.
        initializer_range: standard deviation of the normal distribution from which weights are drawn.
        tie_word_embeddings: whether the decoder of the language-model head is the table of word embeddings.
        pad_token_id: number of the token that pads a text; `None` for none.
        bos_token_id: number of the token that begins a text; `None` for none.
        eos_token_id: number, or numbers, of the token that ends a text; `None` for none.

    The other fields are those of a layer ([`CrateLayerConfig`]).

    Example:
        >>> CrateConfig.from_size("gpt2-base").is_decoder
        True
    """

    model_type = "crate"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012 (the parent's declaration)

    vocab_size: int = 50265
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    position_offset: int | None = None
    embedding_layer_norm: bool = True
    final_layer_norm: bool = False
    lm_head_transform: bool = True
    attention_output_bias: bool = False
    is_decoder: bool = False
    use_cache: bool = True
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    classifier_dropout: float | int | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        check_labels(self, kwargs.get("num_labels"))
        resolve_head_dim(self)
        self.resolve_output("learned")
        if self.position_offset is None:
            self.position_offset = 0 if self.pad_token_id is None else self.pad_token_id + 1
        super().__post_init__(**kwargs)
        self.validate_architecture()  # here, so that it raises a plain ValueError

    def validate_architecture(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        check_layer(self)
        check_positive(self, "vocab_size", "max_position_embeddings")
        check_not_negative(self, "initializer_range")
        if self.classifier_dropout is not None:
            check_probability(self, "classifier_dropout")
        assert self.position_offset is not None  # filled in after construction
        if self.type_vocab_size < 0 or self.position_offset < 0:
            raise UserError(
                f"type_vocab_size and position_offset must be >= 0, got {self.type_vocab_size} and "
                f"{self.position_offset}"
            )
        if self.max_sequence_length < 1:
            raise UserError(
                f"max_position_embeddings ({self.max_position_embeddings}) leaves no position after position_offset "
                f"({self.position_offset})"
            )
        if self.position_offset and self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise UserError(
                f"pad_token_id must be of the vocabulary, from 0 to {self.vocab_size - 1}, got {self.pad_token_id}"
            )
        check_size(
            self,
            self.num_hidden_layers,
            vocab_size=self.vocab_size,
            max_position_embeddings=self.max_position_embeddings,
            type_vocab_size=self.type_vocab_size,
        )

    @classmethod
    def from_size(cls, size: str, **fields: Any) -> "CrateConfig":
        """Configuration named "SHELL-SIZE": shell bert, gpt2 or gpt2-overcomplete; size tiny, small, base or large.

        Args:
            size: e.g. "bert-base", "gpt2-base", "gpt2-overcomplete-base".
            fields: any field to override.

        Raises:
            ValueError: an unknown shell or size.
        """
        shell, _, width = size.rpartition("-")
        if shell not in _SHELLS:
            raise UserError(
                f"unknown size {size!r}: expected SHELL-SIZE with SHELL one of {', '.join(_SHELLS)}, e.g. 'bert-base'"
            )
        return cls(**{**size_fields(width), **_SHELLS[shell], **fields})

    @property
    def max_sequence_length(self) -> int:
        """Longest sequence, in tokens, that the position table holds."""
        assert self.position_offset is not None  # filled in after construction
        return self.max_position_embeddings - self.position_offset


__all__ = ["CrateConfig"]
