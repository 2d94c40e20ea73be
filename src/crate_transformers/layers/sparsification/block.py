"""What a step that sparsifies is: Z_half in, Z_next out. `configuration/blocks.py` gives it a name.

Shapes: B batch, N tokens, d hidden_size, m entries of the code.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from ..block import Block


class SparsificationStep(Block, ABC):
    """One step of the `sparsification` field, made of the configuration alone; its LayerNorm and residual are its own.

    Where it has a module called `coding`, whose output (B, N, m) is the code, that is recorded as `codes`. Where it has
    none, the tokens that leave the layer stand for the code.
    """

    @abstractmethod
    def forward(self, half_hidden_states: Tensor) -> Tensor:
        """Z_next (B, N, d) of Z_half (B, N, d)."""

    def code_width(self) -> int | None:
        """m, the entries of a code; None where no code is recorded."""
        return None


__all__ = ["SparsificationStep"]
