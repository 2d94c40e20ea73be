"""Adapters of PEFT around the parts of a layer: what they add where a layer reads a weight past its module.

An adapter stands in the place of a module, its `base_layer`, and adds to what that gives. A weight that is read past
the module would come without the addition: the bases of a tied way back, the dictionary of a tied decoder.

    W + sum_a s_a B_a A_a      a: the active adapters

Source: LoRA, arXiv 2106.09685.
"""

from typing import Any

from torch import Tensor, nn

from ..errors import UserError


def is_adapter(module: nn.Module) -> bool:
    """Whether a module is an adapter around another one."""
    return hasattr(module, "base_layer") and hasattr(module, "active_adapters")


def is_adapted(model: nn.Module) -> bool:
    """Whether there is an adapter anywhere in a model."""
    return any(is_adapter(module) for module in model.modules())


def refuse_adapters(model: nn.Module, deed: str) -> None:
    """Refuse a model that carries adapters, where weights are read as they are stored.

    Raises:
        UserError: it does; the message says what cannot be done (`deed`) and what to do.
    """
    if is_adapted(model):
        raise UserError(
            f"{deed} a model that carries adapters of PEFT: merge them first (model = peft_model.merge_and_unload())"
        )


def weight_of(module: Any, name: str = "weight") -> Tensor:
    """A weight of a module with what adapters around the module add to it; without adapters the weight itself.

    Args:
        module: in its place in the layer. name: of the parameter.

    Raises:
        UserError: an adapter that is not LoRA's sum.
    """
    total: Tensor | None = None
    while is_adapter(module):
        added = _added_by(module, name)
        if added is not None:
            total = added if total is None else total + added
        module = module.base_layer
    weight: Tensor = getattr(module, name)
    return weight if total is None else weight + total.to(weight.dtype)


def _added_by(adapter: Any, name: str) -> Tensor | None:
    """What one adapter adds to a weight; None where it is off, merged, or of another weight."""
    if adapter.disable_adapters or adapter.merged or getattr(adapter, "parameter_name", "weight") != name:
        return None
    if not hasattr(adapter, "lora_A"):
        raise UserError(
            f"a weight that is tied cannot carry an adapter of {type_name(adapter)}: use LoRA, or leave that part out"
        )
    total: Tensor | None = None
    for active in adapter.active_adapters:
        if active not in adapter.lora_A:
            continue
        if getattr(adapter, "lora_variant", {}).get(active) is not None or adapter.use_dora.get(active):
            raise UserError("a weight that is tied carries plain LoRA alone: leave out DoRA and its like")
        added = adapter.get_delta_weight(active)
        total = added if total is None else total + added
    return total


def type_name(module: object) -> str:
    """The name of a module's class."""
    return module.__class__.__name__


def refuse_addition(module: nn.Module) -> None:
    """Refuse an adapter that adds to the output of a map with a nonlinearity within: that is no change of its weight.

    Raises:
        UserError: with what to do instead.
    """
    if is_adapter(module) and not hasattr(module, "parameter_name"):
        raise UserError(
            f"{type_name(module)} would add to the output of the first map of an MLP after its gelu, and could not be "
            "merged: name its weight in target_parameters, as crate_lora_config(model, dictionaries=True) does"
        )


__all__ = ["is_adapted", "is_adapter", "refuse_adapters", "refuse_addition", "weight_of"]
