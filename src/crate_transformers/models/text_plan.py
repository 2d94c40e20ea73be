"""What a text model is given, checked and planned at the start of a forward: ids within their tables, one cache.

Values are looked at where that costs nothing: on a CPU, in a model that is not compiled.

Shapes: B batch, T tokens.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from ..configuration import CrateConfig
from ..errors import UserError
from ..layers import CompressionOperator
from ..layers.compression.cache import StatisticsLayer
from .plan import check_mask, operators_of

logger = logging.getLogger(__name__)


def _outside(ids: Tensor, count: int) -> int | None:
    """An id that is not in [0, count), or None."""
    if torch.compiler.is_compiling() or ids.device.type != "cpu" or ids.numel() == 0:
        return None
    low, high = ids.aminmax()
    return int(low) if low < 0 else int(high) if high >= count else None


def _check_padding(attention_mask: object) -> None:
    """Refuse a batch without a single real token.

    Raises:
        ValueError: a (B, T) mask that is 0 everywhere. A row of padding beside real rows is fine.
    """
    if torch.compiler.is_compiling() or not isinstance(attention_mask, Tensor):  # a mask may come prepared
        return
    if attention_mask.device.type != "cpu" or attention_mask.ndim != 2:
        return
    if attention_mask.numel() and not attention_mask.any():
        raise UserError(
            f"the batch is all padding: attention_mask {tuple(attention_mask.shape)} is 0 everywhere; leave such a "
            "batch out"
        )


def check_text(
    config: CrateConfig,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    position_ids: Tensor | None,
    token_type_ids: Tensor | None,
    attention_mask: object,
) -> int:
    """How many tokens T a sequence has; arguments as in `CrateModel.forward`.

    Raises:
        UserError: both or neither of input_ids and inputs_embeds; an id outside its table; a batch that is all
            padding; a sequence of no token.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise UserError("pass exactly one of input_ids and inputs_embeds")
    wrong = None if input_ids is None else _outside(input_ids, config.vocab_size)
    if wrong is not None:
        raise UserError(f"token id {wrong} is outside the vocabulary of {config.vocab_size} tokens")
    for name, ids, rows in (
        ("position_ids", position_ids, config.max_position_embeddings),
        ("token_type_ids", token_type_ids, config.type_vocab_size),
    ):
        wrong = _outside(ids, rows) if ids is not None and rows else None
        if wrong is not None:
            raise UserError(f"{name} holds {wrong}, outside the table of {rows} rows")
    _check_padding(attention_mask)
    given = input_ids if input_ids is not None else inputs_embeds
    assert given is not None
    if given.shape[1] == 0:
        raise UserError("a sequence of no token: pass at least one")
    return given.shape[1]


def check_length(config: CrateConfig, num_tokens: int) -> None:
    """Refuse a sequence that is longer than the position table."""
    limit = config.max_sequence_length
    if num_tokens > limit:
        raise UserError(
            f"a sequence of {num_tokens} tokens is longer than the context of {limit} tokens: truncate it, or "
            "build the model with a larger max_position_embeddings"
        )


def check_packing(model: PreTrainedModel, position_ids: Tensor | None, attention_mask: object) -> None:
    """Refuse several sequences in one row where an operator cannot keep them apart.

    Without a mask, a token whose position (B, T) is not the next one begins a sequence, as transformers has it.

    Raises:
        UserError: with the operator.
    """
    if position_ids is None or attention_mask is not None or torch.compiler.is_compiling():
        return
    deaf = [type(operator).__name__ for operator in operators_of(model) if not operator.reads_mask]
    if deaf and (position_ids.diff(dim=-1) != 1).any():
        raise UserError(
            f"position_ids do not count up by one, which says that a row holds several sequences: {deaf[0]} cannot "
            "keep them apart, so give each a row of its own (for one sequence with padding, pass its attention_mask)"
        )


def one_cache(cache: object, past_key_values: object) -> Any:
    """The cache, by whichever of its two names it was given.

    Raises:
        UserError: both names, or what is no cache.
    """
    if cache is not None and past_key_values is not None:
        raise UserError("the cache came twice, as cache and as past_key_values: pass one of them")
    cache = past_key_values if cache is None else cache
    if cache is not None and not hasattr(cache, "update"):
        raise UserError(f"the cache must be one of transformers', e.g. DynamicCache(), got {type(cache).__name__}")
    return cache


def fit_cache(cache: Cache, operators: Sequence[CompressionOperator]) -> Cache:
    """Put into a cache of transformers, in place, the layers that the operators of a model keep the past in.

    Layers that already hold tokens, and kinds that the operator does not replace (quantized, sliding), are left as they
    are, where the operator keeps keys and values at all: right, but not smaller.

    Returns:
        the same cache.

    Raises:
        UserError: a kind of layer that an operator without keys and values cannot use.
    """
    layers: list[Any] = cache.layers
    while cache.layer_class_to_replicate is not None and len(layers) < len(operators):
        layers.append(cache.layer_class_to_replicate())
    for index, (layer, operator) in enumerate(zip(layers, operators, strict=False)):
        replace = operator.cache_layers.get(type(layer))
        if replace is not None and (
            not layer.is_initialized or (not operator.keeps_tokens and not layer.get_seq_length())
        ):
            layers[index] = replace(layer)
        elif not operator.keeps_tokens and not isinstance(layer, StatisticsLayer):
            raise UserError(
                f"layer {index} ({type(operator).__name__}) keeps statistics of its tokens, which a "
                f"{type(layer).__name__} cannot hold: pass an empty DynamicCache() or StaticCache, or none"
            )
    return cache


@dataclass(frozen=True)
class CachePlan:
    """What a forward does with a cache.

    Attributes:
        cache: where the tokens are appended; None: nowhere. is_kept: whether the caller gets it back.
        is_paged: transformers' continuous batching holds it, which counts the positions and makes the masks itself.
        past_length: tokens that it holds already.
    """

    cache: Any = None
    is_kept: bool = False
    is_paged: bool = False
    past_length: int | Tensor = 0


def _recomputes(model: PreTrainedModel) -> bool:
    """Whether the backward pass of this forward runs the layers again (gradient checkpointing)."""
    layers: Any = model.layers
    return any(layer.gradient_checkpointing for layer in layers) and model.training and torch.is_grad_enabled()


def plan_cache(model: PreTrainedModel, cache: Any, use_cache: bool | None) -> CachePlan:
    """What a forward of a text backbone does with the cache that it was given, or that it is to begin.

    Raises:
        UserError: an encoder that is given a cache.
    """
    if not getattr(model.config, "is_decoder", False):
        if cache is not None:
            raise UserError(f"{type(model).__name__} is an encoder (config.is_decoder is false): it has no cache")
        return CachePlan()
    if _recomputes(model):
        if cache is not None:
            logger.warning("layers are recomputed in the backward pass, which would fill the cache twice: none is kept")
        return CachePlan()
    if use_cache and cache is None:
        cache = DynamicCache(config=model.config)
    if cache is None:
        return CachePlan()
    operators = operators_of(model)
    if not isinstance(cache, Cache):
        if not all(operator.keeps_tokens for operator in operators):
            raise UserError(
                "a layer of tssa keeps statistics of its tokens: a paged cache, of tokens, cannot hold them"
            )
        return CachePlan(cache, bool(use_cache), is_paged=True)
    return CachePlan(cache, bool(use_cache), past_length=fit_cache(cache, operators).get_seq_length())


def real_tokens(model: PreTrainedModel, mask: object, num_tokens: int, past_length: int | Tensor) -> Tensor | None:
    """Which of the new tokens are no padding (B, T), for operators that read no mask; None where nothing says.

    Args:
        mask: (B, past + T), 1 for a token; or the 4-d mask that `generate` prepares for a static cache, which says no
            more than that.

    Raises:
        UserError: a prepared mask that says more, for an operator that cannot obey it.
    """
    if not isinstance(mask, Tensor) or all(operator.reads_mask for operator in operators_of(model)):
        if not isinstance(mask, Tensor | None):
            check_mask(model, mask)
        return mask[:, -num_tokens:].bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None
    if mask.ndim == 2:
        return mask[:, -num_tokens:].bool()
    seen = mask if mask.dtype == torch.bool else mask == 0
    if not torch.compiler.is_compiling():
        _check_plain(model, mask, seen[:, 0, :, : int(past_length) + num_tokens], int(past_length))
    places = torch.arange(num_tokens, device=mask.device) + past_length
    return seen[:, 0, -1].index_select(1, places)  # a real token is seen by the last one


def _check_plain(model: PreTrainedModel, mask: Tensor, seen: Tensor, past_length: int) -> None:
    """Refuse a prepared mask that says more than which tokens are padding; seen (B, T, past + T), True for what is."""
    last = seen[:, -1]
    earlier = torch.ones_like(seen[0]).tril(past_length)
    is_plain = (seen == (last[:, None] & earlier)) | ~last[:, None, past_length:].mT  # padding may see anything
    if not model.config.is_decoder or not is_plain.all():
        check_mask(model, mask)


__all__ = [
    "CachePlan",
    "check_length",
    "check_packing",
    "check_text",
    "fit_cache",
    "one_cache",
    "plan_cache",
    "real_tokens",
]
