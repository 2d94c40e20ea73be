"""torch's linear layer, with its product taken by the library's operator (see ops/linear)."""

from torch import Tensor, nn

from ..ops import linear


class Linear(nn.Linear):
    """x W^T + b. Tools that ask for instances of nn.Linear (quantisation, adapters) find it."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


__all__ = ["Linear"]
