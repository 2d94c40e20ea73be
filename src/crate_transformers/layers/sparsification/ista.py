"""The ISTA blocks: sparse coding of the tokens in a learned dictionary D, chosen by config fields.

    square (dictionary_ratio 1):       z = relu(x + eta (x - x D^T) D - eta lambda)                      [P1, eq. 13]
    over-complete (dictionary_ratio c): z_0 = 0, z_{j+1} = relu(z_j + eta (x - z_j D^T) D - eta lambda),  x' = z E^T

with E = D (tied) or a second dictionary (decoupled), and with or without a residual. ops/ista/ holds the step.

Shapes: B batch, N tokens, d hidden_size, m = d * dictionary_ratio atoms.

[P1] arXiv 2306.01129.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from ...ops import ista, linear
from ...ops.ista import folded_step, step_matrix
from ..adapters import is_adapter, weight_of
from ..block import Block
from ..increment import DropPath
from ..layer_norm import block_norm
from ..normalized_linear import NormalizedLinear
from .block import SparsificationStep


class SparseCoding(Block):
    """Tokens to their sparse codes by `ista_steps` steps of ISTA.

    Args:
        config: hidden_size, dictionary_ratio, ista_steps, ista_step_size, ista_lambda; with the attention
            implementation `mssa` the end of a step is Triton's on a GPU.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        self.num_steps = config.ista_steps
        self.step_size = config.ista_step_size
        self.sparsity_weight = config.ista_lambda
        self.from_zero = config.dictionary_ratio > 1
        num_atoms = config.hidden_size * config.dictionary_ratio
        self.dictionary = nn.Parameter(torch.empty(config.hidden_size, num_atoms))  # (d, m)
        self.kept_step: Tensor | None  # (d, d), set within `kept_step_matrices` alone (see kept_steps.py)
        self.register_buffer("kept_step", None, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # fan_out is d: one bound for the square and the over-complete dictionary, as in the public code
        init.kaiming_uniform_(self.dictionary, mode="fan_out")

    def forward(self, tokens: Tensor) -> Tensor:
        """Codes (B, N, m), >= 0, of tokens (B, N, d)."""
        return ista(
            tokens,
            self.dictionary,
            self.step_size,
            self.sparsity_weight,
            self.num_steps,
            self.from_zero,
            kept_step=self.kept_step,
            triton=self.config._attn_implementation == "mssa",
        )

    def keep_step(self) -> None:
        """Build the matrix of the step now, for calls on few tokens; only a step from the tokens has one."""
        if not self.from_zero:
            self.kept_step = step_matrix(self.dictionary, self.step_size)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseCoding":
        self.kept_step = None  # of the dictionary as it was: another dtype takes another form of the step
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Copies keep nothing: no scope would ever end for them."""
        return {**vars(self), "_buffers": {**self._buffers, "kept_step": None}}


class DecoderMap(Block, nn.Linear):
    """x' = z E^T (..., d) of codes z (..., m) as a linear map, where E is the `decoder_dictionary` of a step.

    It is a place for adapters (PEFT's), which stand around modules; without one nothing calls it. It holds no weight of
    its own, so that E keeps its name.

    Args:
        step: holds E (d, m), and this.
    """

    def __init__(self, step: "Sparsification"):
        nn.Module.__init__(self)
        self._step = (step,)  # in a tuple: it is no part of this module
        self.out_features, self.in_features = self.weight.shape
        self.register_parameter("bias", None)

    @property
    def weight(self) -> Tensor:
        """E (d, m)."""
        dictionary = self._step[0].decoder_dictionary
        assert dictionary is not None
        return dictionary

    @weight.setter
    def weight(self, weight: Tensor) -> None:  # by tools that replace weights, as quantisation does
        self._step[0].decoder_dictionary = cast(nn.Parameter, weight)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            object.__setattr__(self, name, value)  # torch would make it a parameter of this module
        else:
            super().__setattr__(name, value)


class Sparsification(SparsificationStep):
    """One step that sparsifies: LayerNorm, sparse coding, and decoding where the dictionary is over-complete.

    Args:
        config: the fields of SparseCoding, and tie_dictionary, ista_residual, block_layer_norm_eps.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.norm = block_norm(config)
        self.coding = SparseCoding(config)
        self.decodes = config.dictionary_ratio > 1
        self.residual = config.ista_residual
        self.drop_path = DropPath(config.drop_path_rate if config.ista_residual else 0.0)  # there is nothing to skip to
        self.decoder_dictionary: nn.Parameter | None = None
        self.decoder: nn.Module | None = None
        if self.decodes and not config.tie_dictionary:
            self.decoder_dictionary = nn.Parameter(torch.empty_like(self.coding.dictionary))  # (d, m)
            self.decoder = DecoderMap(self)
            self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.decoder_dictionary is not None:
            init.kaiming_uniform_(self.decoder_dictionary, mode="fan_out")

    def forward(self, half_hidden_states: Tensor) -> Tensor:
        """Z_next (B, N, d) of Z_half (B, N, d)."""
        output = self.coding(self.norm(half_hidden_states))
        if self.decodes:
            output = self._decode(output)
        return half_hidden_states + self.drop_path(output) if self.residual else output

    def _decode(self, codes: Tensor) -> Tensor:
        if self.decoder is not None and is_adapter(self.decoder):
            tokens: Tensor = self.decoder(codes)
            return tokens
        dictionary = self.decoder_dictionary
        return linear(codes, weight_of(self.coding, "dictionary") if dictionary is None else dictionary)

    def code_width(self) -> int:
        return self.coding.dictionary.shape[1]

    def folded(self) -> nn.Module:
        """LayerNorm and the one step from the tokens as one projection and a relu; other members stay what they are."""
        coding = self.coding
        if coding.from_zero or coding.num_steps != 1 or self.residual:
            return self
        weight, threshold = folded_step(coding.dictionary, coding.step_size, coding.sparsity_weight)
        return nn.Sequential(NormalizedLinear(self.norm, weight, threshold), nn.ReLU(inplace=True))


__all__ = ["SparseCoding", "Sparsification"]
