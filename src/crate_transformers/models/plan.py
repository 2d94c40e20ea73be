"""The plan of a forward: what it may leave out, decided once, before the first layer runs.

A classifier reads one token of the last layer, so that layer need make no other (see `CompressionOperator.mix_first`).
That is not done where somebody might look at the other tokens (a hook; records are made by hooks) or where the layer is
no longer what the library built (quantised, adapted or offloaded weights).
"""

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import UserError
from ..layers import CompressionOperator, CrateLayer, Linear
from ..layers.attention_names import ONE_WIDE_HEAD


def is_watched(module: nn.Module) -> bool:
    """Whether a hook is on a module or in it; torch's global hooks, which profile what is run, are not asked."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, kind) for part in module.modules() for kind in hooks)


def _is_as_built(subspaces: nn.Module | None, tokens: Tensor) -> bool:
    """Whether a projection is a plain matrix, and here: an offloaded one comes when its module is called."""
    if subspaces is None:
        return True
    plain = type(subspaces) is Linear and type(subspaces.weight) is nn.Parameter
    return plain and subspaces.weight.device == tokens.device


def plan_read(
    model: nn.Module, tokens: Tensor, attention_mask: object, num_read: int | None, attention: str
) -> int | None:
    """How many tokens the last layer of a backbone makes, the first ones; None: all.

    Args:
        tokens: (B, N, d), what enters the layers. attention_mask: as the layers take it. num_read: how many are read
            afterwards; None: all. attention: the name of the attention that runs.
    """
    if num_read is None or attention not in ONE_WIDE_HEAD:
        return None
    if not (attention_mask is None or (isinstance(attention_mask, Tensor) and attention_mask.ndim == 4)):
        return None
    last = cast(CrateLayer, cast(nn.ModuleList, model.layers)[-1])
    subspaces = getattr(last.compression.attention, "subspaces", None)
    return None if is_watched(model) or not _is_as_built(subspaces, tokens) else num_read


def operators_of(model: PreTrainedModel) -> list[CompressionOperator]:
    """The operator of each layer of a backbone that compresses."""
    layers: Any = model.layers
    return [layer.compression.attention for layer in layers]


def check_mask(model: PreTrainedModel, mask: object) -> None:
    """Refuse a mask of who sees whom where an operator cannot obey it.

    Raises:
        UserError: with the operator.
    """
    deaf = [type(operator).__name__ for operator in operators_of(model) if not operator.reads_mask]
    if mask is not None and deaf:
        raise UserError(
            f"{deaf[0]} compares no tokens pairwise: it cannot take a mask of who sees whom (of text, pass a mask of "
            "tokens and padding (B, T))"
        )


def image_mask(model: PreTrainedModel, mask: Tensor | None) -> Tensor | None:
    """The mask that layers take: one of tokens that are seen (B, N), 1 for those, becomes one of pairs (B, 1, 1, N).

    Raises:
        UserError: an operator that cannot obey it.
    """
    check_mask(model, mask)
    return mask[:, None, None].bool() if mask is not None and mask.ndim == 2 else mask


def run_layers(
    model: PreTrainedModel,
    hidden_states: Tensor,
    attention_mask: Any = None,
    num_read: int | None = None,
    **kwargs: Any,
) -> Tensor:
    """Unroll the iterations of the objective, one layer of a backbone each: (B, N, d) -> (B, N, d).

    num_read: how many tokens are read afterwards, the first ones. (B, N, d) -> (B, num_read, d) where the plan says so.
    """
    attention = kwargs.get("attn_implementation") or model.config._attn_implementation
    num_read = plan_read(model, hidden_states, attention_mask, num_read, attention)
    *earlier, last = cast(nn.ModuleList, model.layers)
    for layer in earlier:
        hidden_states = layer(hidden_states, attention_mask, **kwargs)
    return last(hidden_states, attention_mask, **kwargs, **({} if num_read is None else {"num_read": num_read}))


__all__ = ["check_mask", "image_mask", "is_watched", "operators_of", "plan_read", "run_layers"]
