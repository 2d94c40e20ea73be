"""Checks that the three configurations share."""

import math
from typing import Any

from ..errors import UserError


def as_pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or as a pair."""
    if isinstance(size, int):
        return size, size
    if len(size) != 2:
        raise UserError(f"a size is one number or (height, width), got {size!r}")
    return int(size[0]), int(size[1])


def check_positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value <= 0:
            raise UserError(f"{name} must be positive, got {value}")


def check_probability(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 <= value < 1:
            raise UserError(f"{name} must be in [0, 1), got {value}")


def check_layer(config: Any) -> None:
    """The fields of a CRATE layer: heads that divide the width, a usable dictionary and step."""
    check_positive(
        config, "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "dictionary_ratio", "ista_steps"
    )
    check_positive(config, "layer_norm_eps", "block_layer_norm_eps", "ista_step_size")
    check_probability(config, "attention_probs_dropout_prob", "hidden_dropout_prob")
    for name in ("ista_step_size", "ista_lambda"):
        if not math.isfinite(getattr(config, name)):
            raise UserError(f"{name} must be a finite number, got {getattr(config, name)}")
    if config.ista_lambda < 0:
        raise UserError(f"ista_lambda must be >= 0, got {config.ista_lambda}")
    if config.dictionary_ratio == 1 and not config.tie_dictionary:
        raise UserError(
            "tie_dictionary=False needs an over-complete dictionary (dictionary_ratio > 1): "
            "with dictionary_ratio=1 the code itself is the output and nothing is decoded"
        )


def resolve_head_dim(config: Any) -> None:
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


def check_patches(config: Any) -> None:
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


__all__ = ["as_pair", "check_layer", "check_patches", "check_positive", "check_probability", "resolve_head_dim"]
