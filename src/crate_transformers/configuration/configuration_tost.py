"""Configuration of ToST for text: the causal shell of CRATE with token statistics attention and an MLP."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import UserError
from .configuration_crate import CrateConfig
from .sizes import TOST_SIZES


@strict
class TostConfig(CrateConfig):
    r"""Configuration of [`TostModel`] and [`TostForCausalLM`]; the defaults are ToST-base (arXiv 2412.17810).

    The fields are those of [`CrateConfig`], with other defaults: compression "tssa", sparsification "mlp", LayerScale,
    a final norm, GPT-2's vocabulary, and no bias anywhere. `bias` sets all biases at once.

    Args:
        bias: biases of projections, MLPs and LayerNorms.

    Example:
        >>> TostConfig.from_size("medium").hidden_size
        1024
    """

    model_type = "tost"

    bias: bool = False
    vocab_size: int = 50304
    max_position_embeddings: int = 1024
    type_vocab_size: int = 0
    position_offset: int | None = 0
    embedding_layer_norm: bool = False
    final_layer_norm: bool = True
    lm_head_transform: bool = False
    is_decoder: bool = True
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    compression: str | list[str] | tuple[str, ...] = "tssa"
    sparsification: str | list[str] | tuple[str, ...] = "mlp"
    layer_scale: float | int | None = 1e-5
    pad_token_id: int | None = None
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    def __post_init__(self, **kwargs: Any) -> None:
        self.qkv_bias = self.attention_output_bias = self.mlp_bias = self.layer_norm_bias = self.bias
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        if not self.is_decoder:
            raise UserError("ToST for text is causal: is_decoder must be true")
        super().validate_architecture()

    @classmethod
    def from_size(cls, size: str, **fields: Any) -> "TostConfig":
        """Configuration of a published size, "base", "medium" or "large", with any field overridden.

        Raises:
            ValueError: an unknown size.
        """
        if size not in TOST_SIZES:
            raise UserError(f"unknown size {size!r}: expected one of {', '.join(TOST_SIZES)}")
        return cls(**{**TOST_SIZES[size], **fields})


__all__ = ["TostConfig"]
