"""Runs that train adapters around a model that stays as it is, and its head (train.lora_rank).

A checkpoint holds the adapters and what is trained as a whole. The rest comes from `model.from` again, so a checkpoint
also holds a digest of it: adapters go on with the model that they were begun on, or not at all.
"""

import hashlib
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import UserError
from ..interop.doors.peft import crate_lora_config, import_peft
from ..layers.adapters import is_adapted
from ..recipes.schema import Recipe

ADAPTER = "adapter"  # the folder of a run that holds its adapters alone


def adapt(model: nn.Module, recipe: Recipe) -> nn.Module:
    """A model with the adapters that a recipe asks for, as PEFT's model; the model itself where it asks for none.

    Raises:
        MissingPackageError: PEFT is not installed. UserError: the model cannot take such adapters.
    """
    train = recipe.train
    if not train.lora_rank:
        return model
    config = crate_lora_config(model, train.lora_rank, train.lora_alpha, train.lora_dropout, train.lora_dictionaries)
    torch.manual_seed(recipe.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by older names
        return cast(nn.Module, import_peft().get_peft_model(model, config))


def count_trained(model: nn.Module) -> int:
    """The number of parameters that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def digest_of_frozen(model: nn.Module) -> str:
    """A digest of the values of all parameters that training leaves as they are; empty where there is none."""
    digest, frozen = hashlib.sha256(), [(n, p) for n, p in model.named_parameters() if not p.requires_grad]
    for name, parameter in frozen:
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if frozen else ""


def check_base(model: nn.Module, before: str) -> None:
    """Refuse to continue adapters on another model than that they were begun on.

    Args:
        before: the digest that a checkpoint holds.

    Raises:
        UserError: it is another one.
    """
    if digest_of_frozen(model) != before:
        raise UserError(
            "the model of model.from is not what it was when the run began, and the adapters of its checkpoints do not "
            "belong to it: put the old one back, or start the run again with --overwrite"
        )


def plain_model(model: nn.Module) -> PreTrainedModel:
    """The model of transformers: itself, or a copy with the adapters merged into its weights."""
    if is_adapted(model):
        adapted: Any = deepcopy(model)
        model = adapted.merge_and_unload()
    assert isinstance(model, PreTrainedModel)
    return model


def save_adapters(model: nn.Module, folder: Path) -> None:
    """Save the adapters of a model alone, with what is trained as a whole, where it has any."""
    if is_adapted(model):
        cast(Any, model).save_pretrained(folder / ADAPTER, save_embedding_layers=False)


__all__ = ["ADAPTER", "adapt", "check_base", "count_trained", "digest_of_frozen", "plain_model", "save_adapters"]
