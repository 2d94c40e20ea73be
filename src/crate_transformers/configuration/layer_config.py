"""The fields of a layer, which all configurations share: which two steps it takes, and how each is built.

    Z_half = Z + compress(LN(Z)),   Z_next = sparsify(Z_half)

One grid spans the family: `compression` x `sparsification`, each by name (blocks.py lists them).
"""

import os
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..errors import UserError
from ..files import write_bytes
from .families import MODEL_FAMILIES
from .remote_code import CODE_FILE, auto_map_of, code_of


@strict
class CrateLayerConfig(PreTrainedConfig):
    r"""Fields of a layer.

    Args:
        hidden_size: width d of a token.
        num_hidden_layers: layers L.
        num_attention_heads: subspaces K.
        head_dim: width p of a subspace; `None` is hidden_size / num_attention_heads.
        block_layer_norm_eps: epsilon of the two LayerNorms of a layer.
        layer_norm_bias: bias of the LayerNorms.
        hidden_dropout_prob: dropout on what a step adds to the tokens.
        attention_probs_dropout_prob: dropout on the attention; for tssa on 1 / (1 + dots).
        drop_path_rate: probability with which, in training, a sample skips what a step would add to its tokens, the
            same in every layer.
        compression: the block that compresses, by name; one name, or one a layer.
        sparsification: the block that sparsifies, by name; one name, or one a layer.
        compression_norm: LayerNorm before the compression.
        attention_output: the projection after the heads: "learned", "tied" (the bases themselves, [U_1 ... U_K]^T, the
            paper's form) or "none".
        attention_output_bias: bias of a learned attention_output.
        attention_output_projection: the older name of attention_output; True is "learned", False "none".
        qkv_bias: bias of the projections of mhsa and tssa.
        representatives: of cbsa, (rows, columns) of the grid to which tokens are pooled.
        representatives_from: of cbsa, which tokens are pooled: "first" as published, all but the last one, the class
            token among them; "patches", all but the class token.
        ista_step_size: eta of the ISTA step, how far it goes.
        ista_lambda: lambda of the ISTA step, how much it sparsifies.
        ista_steps: number of ISTA steps in a layer.
        ista_residual: add the tokens before the LayerNorm to the result of the ISTA block.
        dictionary_ratio: atoms a dimension of the dictionary. 1: a square dictionary, the step starts at the tokens and
            the code is the output. More: the steps start at zero and the code is decoded again.
        tie_dictionary: decode an over-complete code with the dictionary itself (True) or with a second one (False).
        mlp_ratio: hidden width of an mlp block, in widths of the model.
        mlp_bias: biases of an mlp block.
        layer_scale: start of the learned factors (one a channel) of what compression and mlp add; `None` for none.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    head_dim: int | None = None
    block_layer_norm_eps: float = 1e-5
    layer_norm_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    compression: str | list[str] | tuple[str, ...] = "mssa"
    sparsification: str | list[str] | tuple[str, ...] = "ista"
    compression_norm: bool = True
    attention_output: Literal["learned", "tied", "none"] | None = None
    attention_output_bias: bool = True
    attention_output_projection: bool | None = None
    qkv_bias: bool = True
    representatives: list[int] | tuple[int, int] = (8, 8)
    representatives_from: Literal["first", "patches"] = "first"
    ista_step_size: float | int = 0.1
    ista_lambda: float | int = 0.1
    ista_steps: int = 1
    ista_residual: bool = False
    dictionary_ratio: int = 1
    tie_dictionary: bool = True
    mlp_ratio: float | int = 4
    mlp_bias: bool = True
    layer_scale: float | int | None = None

    @property
    def mlp_size(self) -> int:
        """Hidden width of an mlp block."""
        return round(self.mlp_ratio * self.hidden_size)

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """As transformers does it, with what lets the folder load by `trust_remote_code=True` where this package is
        installed but was not imported. A model saves its configuration by this method too."""
        family = MODEL_FAMILIES[self.model_type]
        self.auto_map = auto_map_of(family)
        if not Path(save_directory).is_file():  # transformers says what is wrong then
            write_bytes(Path(save_directory) / CODE_FILE, code_of(family))
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Nothing to do: transformers would copy the source file into saved folders, which `save_pretrained` lets
        import this package instead."""

    def resolve_output(self, default: Literal["learned", "none"]) -> None:
        """Fill in attention_output and its older name, of each other or with the default.

        Raises:
            UserError: the two contradict each other.
        """
        older = self.attention_output_projection
        if self.attention_output is None:
            self.attention_output = default if older is None else "learned" if older else "none"
        elif older is not None and older != (self.attention_output != "none"):
            raise UserError(
                f"attention_output is {self.attention_output!r} and attention_output_projection, its older name, is "
                f"{older}: set one of them"
            )
        self.attention_output_projection = self.attention_output != "none"


__all__ = ["CrateLayerConfig"]
