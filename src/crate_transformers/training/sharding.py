"""FSDP2: every process holds a share of each weight, gradient and moment of the optimizer, and gathers what it uses.

torch's `fully_shard` does it, on GPUs and on CPUs. accelerate's plugin, which calls the same function, is not used: it
switches itself on for kinds of devices among which processes on CPUs are not, and where it is on, the embeddings and
the last norm become units of their own, which a self-distilling pair does not have. So there is one way, and the tests
on CPUs run it.

A sharded model reads and changes its weights by its own forward alone. Whoever wants to look at whole weights takes the
copy of `WholeModel`.
"""

import copy
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from ..errors import UserError


def shard(model: nn.Module, device: torch.device, processes: int) -> None:
    """Shard a model in place over all processes: each of its layers is a unit, the rest is one.

    Args:
        device: the one of this process, on which the model is. processes: how many there are.

    Raises:
        UserError: the model has parameters that are not trained beside ones that are, in one layer.
    """
    # torch warns of operators in place on what a layer returns, where that is a view; there is none after a layer
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    mesh = init_device_mesh(device.type, (processes,))
    for part in layers_of(model):
        if len({parameter.requires_grad for parameter in part.parameters()}) > 1:
            raise UserError(
                f"train.fsdp shards layers whose weights are all trained, or none: {type(part).__name__} mixes them; "
                "leave train.fsdp out"
            )
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that are gathered one at a time; what else there is stays gathered within a step."""
    inner = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    kinds = {name for part in inner for name in part._no_split_modules or ()}
    return [part for part in model.modules() if type(part).__name__ in kinds]


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes share the weights of a model."""
    return any(isinstance(part, FSDPModule) for part in model.modules())


def reshard(model: nn.Module) -> None:
    """Give the weights back that a forward without a backward has gathered, so that `parameters` are the shards."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, a tied one under its first name, and those buffers that belong to the saved model, by name."""
    reshard(model)
    saved = model.state_dict(keep_vars=True)
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return {**dict(model.named_parameters()), **buffers}


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, as a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor, to which every process adds its share."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def shared_like(whole: Tensor, like: Tensor) -> Tensor:
    """The share of a whole tensor that this process has of a tensor like it; the whole one where that is whole."""
    if not isinstance(like, DTensor) or whole.shape != like.shape:
        return whole
    here = whole.to(local(like).device)
    return distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None)


class WholeModel:
    """A model as it was before it was sharded, which takes the weights of the sharded one.

    It is made before sharding, and costs no memory until `of` gathers the weights: then every process holds all.
    """

    def __init__(self, model: nn.Module):
        memo: dict[int, object] = {id(value): value.detach().clone() for value in _computed(model)}
        for parameter in model.parameters():
            memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        self.model = copy.deepcopy(model, memo)

    @torch.no_grad()
    def of(self, model: nn.Module) -> nn.Module:
        """The whole model with the weights that a sharded one has now. All processes call it."""
        reshard(model)
        wholes: dict[int, Tensor] = {}
        state = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            if id(tensor) not in wholes:
                wholes[id(tensor)] = gathered(tensor.detach())
            state[name] = wholes[id(tensor)]
        self.model.load_state_dict(state, assign=True)
        for part in self.model.modules():
            if isinstance(part, PreTrainedModel):
                part.tie_weights()
        self.model.train(model.training)
        return self.model


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that a module keeps beside its parameters and computes from them, as torch's older weight norm does."""
    for part in model.modules():
        yield from (v for v in vars(part).values() if isinstance(v, Tensor) and v.grad_fn is not None)


__all__ = [
    "WholeModel",
    "gathered",
    "is_sharded",
    "layers_of",
    "local",
    "reshard",
    "saved_tensors",
    "shard",
    "shared_like",
]
