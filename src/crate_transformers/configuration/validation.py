"""Checks that the configurations share.

Beside sizes that do not fit each other, sizes beyond any model are refused, so that a slip of the hand or a damaged
config.json ends in a message and not in a full memory: more layers than MOST_LAYERS, more numbers in the matrices than
MOST_NUMBERS, more classes than MOST_LABELS, more ISTA steps in a layer than MOST_STEPS.
"""

import math
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from ..errors import UserError
from .blocks import check_blocks

MOST_LAYERS = 10_000
MOST_NUMBERS = 10**12
MOST_LABELS = 10_000_000
MOST_STEPS = 10_000
_PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")


def as_pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as a pair."""
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise UserError(f"a size is one number or (height, width), got {size!r}")
    return int(size[0]), int(size[1])


def field_message(error: StrictDataclassError) -> str:
    """What a configuration says of a value of the wrong type: field, type expected, value."""
    return str(error.__cause__ or error).splitlines()[0].partition(". Errors:")[0]


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def check_positive(config: PreTrainedConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not (value > 0 and _is_finite(value)):
            raise UserError(f"{name} must be positive{' and finite' if value > 0 else ''}, got {value}")


def check_probability(config: PreTrainedConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise UserError(f"{name} must be in [0, 1), got {value}")


def check_not_negative(config: PreTrainedConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not (value >= 0 and _is_finite(value)):
            raise UserError(f"{name} must be a finite number >= 0, got {value}")


def check_labels(config: PreTrainedConfig, num_labels: Any) -> None:
    """The names of classes, before a configuration fills them in.

    Args:
        num_labels: as it was passed; None where it was not.
    """
    is_number = isinstance(num_labels, int) and not isinstance(num_labels, bool)
    if num_labels is not None and not (is_number and 0 <= num_labels <= MOST_LABELS):
        raise UserError(f"num_labels must be a whole number from 0 to {MOST_LABELS:,}, got {num_labels!r}")
    for name in ("id2label", "label2id"):
        value = getattr(config, name)
        if value is not None and not isinstance(value, Mapping):
            raise UserError(f"{name} must be a table, got {value!r}")
    wrong = [key for key in config.id2label or () if not str(key).isdecimal()]
    if wrong:
        raise UserError(f"id2label must have the numbers of classes as keys, got {wrong[0]!r}")
    if config.problem_type not in _PROBLEM_TYPES:
        raise UserError(f"problem_type must be one of {', '.join(_PROBLEM_TYPES[1:])}, got {config.problem_type!r}")


def check_layer(config: PreTrainedConfig) -> None:
    """The fields of a CRATE layer: heads that divide the width, a usable dictionary and step."""
    check_positive(
        config, "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "dictionary_ratio", "ista_steps"
    )
    check_positive(config, "layer_norm_eps", "block_layer_norm_eps", "ista_step_size", "mlp_ratio", "mlp_size")
    check_probability(config, "attention_probs_dropout_prob", "hidden_dropout_prob", "drop_path_rate")
    if config.layer_scale is not None:
        check_not_negative(config, "layer_scale")
    check_not_negative(config, "ista_lambda")
    check_blocks(config)
    if config.ista_steps > MOST_STEPS:
        raise UserError(f"ista_steps must be at most {MOST_STEPS:,}, got {config.ista_steps}")
    if config.attention_output == "none" and config.num_attention_heads * config.head_dim != config.hidden_size:
        raise UserError(
            f"attention_output 'none' needs heads that fill the width: {config.num_attention_heads} heads of "
            f"{config.head_dim} are not {config.hidden_size} (hidden_size)"
        )
    if config.dictionary_ratio == 1 and not config.tie_dictionary:
        raise UserError(
            "tie_dictionary=False needs an over-complete dictionary (dictionary_ratio > 1): "
            "with dictionary_ratio=1 the code itself is the output and nothing is decoded"
        )


def check_size(config: PreTrainedConfig, layers: int, **rows: int) -> None:
    """No more layers and numbers than any model has.

    Args:
        layers: of encoder and decoder together.
        rows: how many vectors of hidden_size each table outside the layers holds (words, positions, ...).

    Raises:
        UserError: more than MOST_LAYERS, or than MOST_NUMBERS in the matrices.
    """
    if layers > MOST_LAYERS:
        raise UserError(f"a model of {layers} layers: at most {MOST_LAYERS:,} can be built")
    width, inner = config.hidden_size, config.num_attention_heads * config.head_dim
    dictionaries = max(config.dictionary_ratio * (1 if config.tie_dictionary else 2), 2 * config.mlp_ratio)
    if layers * width * (2 * inner + dictionaries * width) + width * sum(rows.values()) > MOST_NUMBERS:
        sizes = {"hidden_size": width, "layers": layers, "heads x head_dim": inner, **rows}
        told = ", ".join(f"{name} {value}" for name, value in sizes.items())
        raise UserError(f"these sizes make more than {MOST_NUMBERS:,} parameters: {told}")


def resolve_head_dim(config: PreTrainedConfig) -> None:
    """Fill head_dim, where it was left open, with hidden_size / num_attention_heads."""
    if config.head_dim is None:
        heads = config.num_attention_heads
        if heads > 0 and config.hidden_size % heads == 0:
            config.head_dim = config.hidden_size // heads
        else:
            raise UserError(
                f"hidden_size ({config.hidden_size}) is not a multiple of num_attention_heads ({heads}): "
                "change one of them, or set head_dim"
            )


def check_stem(config: PreTrainedConfig) -> None:
    """A stack of convolutions of stride 2, whose widths double up to hidden_size: patches of 8 or 16 pixels."""
    sides = as_pair(config.patch_size)
    if sides not in ((8, 8), (16, 16)):
        raise UserError(f"a conv_stem makes patches of 8 or 16 pixels, got patch_size {config.patch_size}")
    narrowest = sides[0] // 2
    if config.hidden_size % narrowest:
        raise UserError(
            f"hidden_size ({config.hidden_size}) is not a multiple of {narrowest}, by which the first convolution of a "
            f"conv_stem for patches of {sides[0]} pixels is narrower"
        )


def check_patches(config: PreTrainedConfig) -> None:
    """Images that patches divide."""
    check_positive(config, "num_channels")
    image, patch = as_pair(config.image_size), as_pair(config.patch_size)
    for axis, pixels, side in zip(("height", "width"), image, patch, strict=True):
        if pixels <= 0 or side <= 0:
            raise UserError(f"image_size and patch_size must be positive, got {image} and {patch}")
        if pixels % side:
            raise UserError(
                f"the image {axis} {pixels} is not a multiple of the patch {axis} {side}: "
                f"change image_size ({config.image_size}) or patch_size ({config.patch_size})"
            )


__all__ = [
    "MOST_LABELS",
    "MOST_LAYERS",
    "as_pair",
    "check_labels",
    "check_layer",
    "check_not_negative",
    "check_patches",
    "check_positive",
    "check_probability",
    "check_size",
    "check_stem",
    "field_message",
    "resolve_head_dim",
]
