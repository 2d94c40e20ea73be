"""The family of sparsification blocks: sparse coding of the tokens in a learned dictionary D.

    square (dictionary_ratio 1):       z = relu(x + eta (x - x D^T) D - eta lambda)                      [P1, eq. 13]
    over-complete (dictionary_ratio c): z_0 = 0, z_{j+1} = relu(z_j + eta (x - z_j D^T) D - eta lambda),  x' = z E^T

with E = D (tied) or a second dictionary (decoupled), and with or without a residual. All are chosen by config fields.

The square step is evaluated as relu(x (I + M) - eta lambda) with M = eta (D - D^T D): one product a token instead of
three, once M (d^3) costs less than it saves, with the threshold as its bias. In half precision I + M would round M away
beside the identity, so there it is relu(x + x M - eta lambda). The matrix is built in each forward, so no edit of D is
ever missed; `kept_step_matrices` is the one scope in which it outlives a forward.

Shapes: B batch, N tokens, d hidden_size, m = d * dictionary_ratio atoms.

[P1] arXiv 2306.01129.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from .descent_matrix import descent_matrix
from .kernel import shrink, shrink_sum
from .linear import add_product, linear, rectified_linear


class SparseCoding(nn.Module):
    """Tokens to their sparse codes by `ista_steps` steps of ISTA.

    Args:
        config: hidden_size, dictionary_ratio, ista_steps, ista_step_size, ista_lambda; its attention implementation
            says whose operators run (see kernel.py).
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.config = config
        self.num_steps = config.ista_steps
        self.step_size = config.ista_step_size
        self.threshold = config.ista_step_size * config.ista_lambda
        self.starts_at_tokens = config.dictionary_ratio == 1
        self.dictionary = nn.Parameter(
            torch.empty(config.hidden_size, config.hidden_size * config.dictionary_ratio)
        )  # (d, m)
        self.kept_step: Tensor | None  # (d, d), set within `kept_step_matrices` alone
        self.register_buffer("kept_step", None, persistent=False)
        self.reset_parameters()

    def _apply(self, fn: Any, recurse: bool = True) -> "SparseCoding":
        self.kept_step = None  # of the dictionary as it was: another dtype takes another form of the step
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Copies keep nothing: no scope would ever end for them."""
        return {**vars(self), "_buffers": {**self._buffers, "kept_step": None}}

    def reset_parameters(self) -> None:
        # fan_out is d: one bound for the square and the over-complete dictionary, as in the public code
        nn.init.kaiming_uniform_(self.dictionary, mode="fan_out")

    def forward(self, tokens: Tensor) -> Tensor:
        """Codes (B, N, m), >= 0, of tokens (B, N, d)."""
        if self.starts_at_tokens:
            code = self._step_from_tokens(tokens)
        else:
            code = shrink(self.step_size * linear(tokens, self.dictionary.mT), self.threshold)
        for _ in range(self.num_steps - 1):
            residual = tokens - linear(code, self.dictionary)
            code = shrink(code + self.step_size * linear(residual, self.dictionary.mT), self.threshold)
        return code

    def _step_from_tokens(self, tokens: Tensor) -> Tensor:
        """relu(x + eta (x - x D^T) D - eta lambda), by the cheapest of its forms."""
        dictionary, flat = self.dictionary, tokens.flatten(0, -2)  # (d, d), (B N, d)
        step = self.kept_step
        if step is None and (torch.compiler.is_exporting() or flat.shape[0] >= dictionary.shape[0]):
            step = self._step_matrix()
        if step is not None and _holds_identity(step):
            threshold = flat.new_full((len(step),), -self.threshold)
            return rectified_linear(flat, step.mT, threshold).view(tokens.shape)
        left, right = flat, step
        if right is None:
            left, right = add_product(flat, flat, dictionary, -1), dictionary  # x - x D^T
        return shrink_sum(self.config, flat, left, right, self.step_size, self.threshold).view(tokens.shape)

    def _step_matrix(self) -> Tensor:
        """I + eta (D - D^T D) (d, d); in half precision D - D^T D."""
        step = descent_matrix(self.dictionary)
        if not _holds_identity(step):
            return step
        return torch.eye(*step.shape, dtype=step.dtype, device=step.device).add(step, alpha=self.step_size)


def _holds_identity(step: Tensor) -> bool:
    return step.dtype in (torch.float32, torch.float64)


@contextmanager
def kept_step_matrices(model: nn.Module) -> Iterator[None]:
    """Within, every square ISTA step of the model is one product, with a matrix that is built once, here.

    For inference on few tokens at a time (generation). Edits of a dictionary inside the scope are not seen; after it
    nothing is kept. Gradients do not pass through the kept matrices.
    """
    codings = [part for part in model.modules() if isinstance(part, SparseCoding) and part.starts_at_tokens]
    try:
        with torch.no_grad():
            for coding in codings:
                coding.kept_step = coding._step_matrix()
        yield
    finally:
        for coding in codings:
            coding.kept_step = None


class Sparsification(nn.Module):
    """One step that sparsifies: LayerNorm, sparse coding, and decoding where the dictionary is over-complete.

    Args:
        config: the fields of SparseCoding, and tie_dictionary, ista_residual, block_layer_norm_eps.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.block_layer_norm_eps)
        self.coding = SparseCoding(config)
        self.decodes = config.dictionary_ratio > 1
        self.residual = config.ista_residual
        self.decoder_dictionary: nn.Parameter | None = None
        if self.decodes and not config.tie_dictionary:
            self.decoder_dictionary = nn.Parameter(torch.empty_like(self.coding.dictionary))  # (d, m)
            self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.decoder_dictionary is not None:
            nn.init.kaiming_uniform_(self.decoder_dictionary, mode="fan_out")

    def forward(self, half_hidden_states: Tensor) -> Tensor:
        """Z_next (B, N, d) of Z_half (B, N, d)."""
        output = self.coding(self.norm(half_hidden_states))
        if self.decodes:
            decoder = self.coding.dictionary if self.decoder_dictionary is None else self.decoder_dictionary
            output = linear(output, decoder)
        return half_hidden_states + output if self.residual else output


__all__ = ["SparseCoding", "Sparsification", "kept_step_matrices"]
