"""The tensors of a checkpoint, read into a model, an optimizer and an average, whoever wrote them.

A checkpoint has one of two forms. Gathered: `model.safetensors`, `optimizer.pt` and `ema.safetensors`, as transformers'
Trainer names them, by one process. Sharded: the folder `shards` of torch.distributed.checkpoint, to which every process
wrote what it holds, under "model.NAME", "optimizer.NUMBER.NAME" and "average.NAME". Both are read by one process or by
several, into whole tensors or into shares of them, so a run goes on with another number of processes, and FSDP2 goes on
where DDP was and the other way about.

A number of the optimizer is the place of a parameter in its groups, which the names and shapes of the model decide.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.optim import Optimizer

from .sharding import local, reshard, shared_like

SHARDS = "shards"  # the folder of a sharded checkpoint that holds its tensors
MODEL_FILE, OPTIMIZER_FILE, EMA_FILE = "model.safetensors", "optimizer.pt", "ema.safetensors"
OPTIMIZER_REST = "optimizer_groups.pt"  # of a sharded checkpoint: what the optimizer holds beside tensors
MODEL, OPTIMIZER, AVERAGE = "model", "optimizer", "average"


def is_stored_sharded(folder: Path) -> bool:
    """Whether a checkpoint has the sharded form."""
    return (folder / SHARDS).is_dir()


def has_average(folder: Path) -> bool:
    """Whether a checkpoint holds an average of the weights."""
    if is_stored_sharded(folder):
        return any(name.startswith(f"{AVERAGE}.") for name in stored_shapes(folder))
    return (folder / EMA_FILE).is_file()


def stored_shapes(folder: Path) -> dict[str, TensorStorageMetadata]:
    """What a sharded checkpoint says of each of its tensors, by name."""
    metadata = dcp.FileSystemReader(folder / SHARDS).read_metadata()
    found = metadata.state_dict_metadata
    return {name: entry for name, entry in found.items() if isinstance(entry, TensorStorageMetadata)}


def read_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fill tensors, whole ones or shares, with those of a sharded checkpoint. Every process reads for itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that a process reads alone, which is meant
        dcp.load(cast(dict[str, Any], tensors), storage_reader=dcp.FileSystemReader(folder / SHARDS), no_dist=True)


def read_into(folder: Path, part: str, tensors: dict[str, Tensor]) -> list[str]:
    """Fill tensors by name with those of the model or of the average of a checkpoint.

    Args:
        part: `MODEL` or `AVERAGE`. tensors: filled in place, whole ones or shares.

    Returns:
        the names that the checkpoint does not have; their tensors stay as they are.
    """
    if is_stored_sharded(folder):
        known = stored_shapes(folder)
        there = {f"{part}.{name}": tensor for name, tensor in tensors.items() if f"{part}.{name}" in known}
        read_shards(folder, there)
        return [name for name in tensors if f"{part}.{name}" not in there]
    found = load_file(folder / (MODEL_FILE if part == MODEL else EMA_FILE))
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in found:
                local(tensor).copy_(local(shared_like(found[name], tensor)))
    return [name for name in tensors if name not in found]


def read_model(folder: Path, model: nn.Module) -> None:
    """Give a model the weights and buffers of a checkpoint.

    Raises:
        KeyError: the checkpoint is of another model.
    """
    reshard(model)
    saved = model.state_dict(keep_vars=True)  # tied weights stand under each of their names
    unread = set(read_into(folder, MODEL, {name: tensor.detach() for name, tensor in saved.items()}))
    known = {id(tensor) for name, tensor in saved.items() if name not in unread}
    missing = [name for name, tensor in saved.items() if id(tensor) not in known]
    if missing:
        raise KeyError(f"the checkpoint has no {missing[0]}")


def read_optimizer(folder: Path, optimizer: Optimizer) -> None:
    """Give an optimizer the moments and groups of a checkpoint."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if is_stored_sharded(folder):
        content = _sharded_optimizer(folder, parameters)
    else:
        content = torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True)
        for number, values in content["state"].items():
            values.update(
                {
                    name: shared_like(value, parameters[number])
                    for name, value in values.items()
                    if isinstance(value, Tensor)
                }
            )
    optimizer.load_state_dict(content)


def _sharded_optimizer(folder: Path, parameters: list[Tensor]) -> dict[str, Any]:
    content = torch.load(folder / OPTIMIZER_REST, map_location="cpu", weights_only=True)
    tensors: dict[str, Tensor] = {}
    for name, entry in stored_shapes(folder).items():
        part, _, rest = name.partition(".")
        if part != OPTIMIZER:
            continue
        parameter = parameters[int(rest.partition(".")[0])].detach()
        same = parameter.shape == entry.size
        kind = entry.properties.dtype
        tensors[name] = torch.empty_like(parameter, dtype=kind) if same else torch.empty(entry.size, dtype=kind)
    read_shards(folder, tensors)
    for name, tensor in tensors.items():
        _, number, key = name.split(".", 2)
        content["state"].setdefault(int(number), {})[key] = tensor
    return content


def split_optimizer(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimizer as (tensors by "NUMBER.NAME", everything else)."""
    tensors: dict[str, Tensor] = {}
    state: dict[int, dict[str, Any]] = {}
    for number, values in content["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{name}"] = value
            else:
                state.setdefault(number, {})[name] = value
    return tensors, {"state": state, "param_groups": content["param_groups"]}


def join_optimizer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """What `split_optimizer` split."""
    state: dict[int, dict[str, Any]] = {number: dict(values) for number, values in rest["state"].items()}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    return {"state": state, "param_groups": rest["param_groups"]}


__all__ = [
    "AVERAGE",
    "EMA_FILE",
    "MODEL",
    "MODEL_FILE",
    "OPTIMIZER",
    "OPTIMIZER_FILE",
    "OPTIMIZER_REST",
    "SHARDS",
    "has_average",
    "is_stored_sharded",
    "join_optimizer",
    "read_into",
    "read_model",
    "read_optimizer",
    "read_shards",
    "split_optimizer",
    "stored_shapes",
]
