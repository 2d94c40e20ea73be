"""Running mean and standard deviation over samples: bounded memory, whatever the number of samples.

Source: the pairwise update of Chan, Golub and LeVeque (1983).
"""

import torch
from torch import Tensor


class RunningMoments:
    """Mean and sum of squared deviations of vectors, updated batch by batch, in float64 on the CPU."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squared_deviations: Tensor | float = 0.0

    def update(self, values: Tensor) -> None:
        """Take in (n, ...) samples."""
        values = values.detach().double().cpu()
        new = values.shape[0]
        if new == 0:
            return
        mean = values.mean(dim=0)
        deviations = (values - mean).square().sum(dim=0)
        shift = mean - self.mean
        total = self.count + new
        self.squared_deviations = self.squared_deviations + deviations + shift.square() * self.count * new / total
        self.mean = self.mean + shift * new / total
        self.count = total

    def std(self, bessel: bool) -> Tensor:
        """Standard deviation, divided by n - 1 (Bessel) or n; 0 for one sample."""
        divisor = max(self.count - 1, 1) if bessel else max(self.count, 1)
        return (torch.as_tensor(self.squared_deviations) / divisor).sqrt()


__all__ = ["RunningMoments"]
