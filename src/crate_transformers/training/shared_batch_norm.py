"""BatchNorm whose statistics are those of all processes' pictures, so that two processes train as one does.

    y = g (x - mu) / sqrt(var + eps) + b,   mu and var over the pictures and pixels of every process

torch's SyncBatchNorm does the same on GPUs alone where a model is trained by DistributedDataParallel; this one runs on
any device, by differentiable sums over the processes.

Shapes: B pictures of one process, C channels, H x W pixels.
"""

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from ..layers import ConvStage


class SharedBatchNorm(nn.BatchNorm2d):
    """As nn.BatchNorm2d, whose parameters, buffers and names it has; in training over all processes."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(input)
        wide = input.float()
        here = torch.full((1,), wide.numel() / wide.shape[1], device=wide.device)
        sums = all_reduce(torch.cat([wide.sum(dim=(0, 2, 3)), here]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = wide - mean[:, None, None]
        variance = all_reduce(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (variance + self.eps).rsqrt()[:, None, None]
        return (scaled * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def share_statistics(model: nn.Module) -> None:
    """Put a SharedBatchNorm in place of each BatchNorm of the stems of a model."""
    for stage in [part for part in model.modules() if isinstance(part, ConvStage)]:
        own = stage.norm
        assert isinstance(own, nn.BatchNorm2d)
        stage.norm = SharedBatchNorm(own.num_features, own.eps, own.momentum).to(own.weight.device)
        stage.norm.load_state_dict(own.state_dict())
        stage.norm.train(own.training)


__all__ = ["SharedBatchNorm", "share_statistics"]
