"""Checks of those fields of the `model` section that transformers' configurations do not check."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..configuration.validation import check_patches, check_positive
from ..errors import UserError
from ..layers.attention_names import ATTENTION_FUNCTIONS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# fields of every configuration of transformers that a run decides itself
NOT_SET_HERE = (
    "architectures", "transformers_version", "return_dict", "output_hidden_states", "output_attentions",
    "is_encoder_decoder", "chunk_size_feed_forward",
)  # fmt: skip
_PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_pixels(value: object) -> bool:
    return all(map(_is_count, value)) if isinstance(value, list) and len(value) == 2 else _is_count(value)


def _is_names(value: object) -> bool:
    return isinstance(value, dict) and all(str(k).isdecimal() and isinstance(v, str) for k, v in value.items())


def _is_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and str(v).isdecimal() for k, v in value.items())


def _is_dtype(value: object) -> bool:
    return value is None or (isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype))


_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "num_labels": (_is_count, "an integer above 0"),
    "image_size": (_is_pixels, "a number of pixels or [height, width]"),
    "patch_size": (_is_pixels, "a number of pixels or [height, width]"),
    "id2label": (_is_names, "a table of numbers and names, as {0: cat, 1: dog}"),
    "label2id": (_is_numbers, "a table of names and numbers, as {cat: 0, dog: 1}"),
    "problem_type": (lambda value: value in (None, *_PROBLEM_TYPES), f"one of {', '.join(_PROBLEM_TYPES)}"),
    "dtype": (_is_dtype, "a type of torch, as bfloat16"),
}


# fields of transformers' own that the `model` section takes for every family -> what they mean
COMMON_FIELDS = {
    "num_labels": "outputs of the head; unset, as many as the data have classes",
    "id2label": "the name of each class by its number; unset, those of the data",
    "label2id": "the number of each class by its name; unset, those of the data",
    "problem_type": "which loss a classifier of texts has; unset, it follows from the labels",
    "attn_implementation": "the form of the attention, as eager, sdpa, mssa or torch_sdpa; unset, sdpa",
    "dtype": "the type of the weights; unset, that of the checkpoint, and of a new model float32",
}


def kind_of_common(name: str) -> str:
    """The kind of value that a field of `COMMON_FIELDS` takes, in words."""
    return _KINDS[name][1] if name in _KINDS else "str | None"


def expected_kind(name: str, value: object) -> str | None:
    """The kind of value that a field needs ("an integer above 0"); None where the value fits, or is checked later."""
    if name == "attn_implementation":
        known = ("eager", *ATTENTION_FUNCTIONS.valid_keys())
        is_kernel = isinstance(value, str) and "/" in value  # of a repository
        return None if value is None or value in known or is_kernel else f"one of {', '.join(known)}"
    fits, kind = _KINDS.get(name, (lambda value: True, ""))
    return None if fits(value) else kind


def check_baseline(config: "PreTrainedConfig") -> None:
    """Check a baseline as our own configurations check themselves.

    Sizes must be above zero, the heads must divide the width, and the patches must divide the image.

    Raises:
        UserError: with the fields that do not fit.
    """
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "n_inner")
    for prefix in ("", "decoder_"):
        names = [prefix + name for name in (*sizes, "max_position_embeddings") if hasattr(config, prefix + name)]
        check_positive(config, *names)
        if not names:
            continue
        width, heads = (getattr(config, f"{prefix}{name}") for name in ("hidden_size", "num_attention_heads"))
        if width % heads:
            raise UserError(
                f"{prefix}hidden_size ({width}) is not a multiple of {prefix}num_attention_heads ({heads}): change one "
                "of them"
            )
    if hasattr(config, "patch_size"):
        check_patches(config)


__all__ = ["COMMON_FIELDS", "NOT_SET_HERE", "check_baseline", "expected_kind", "kind_of_common"]
