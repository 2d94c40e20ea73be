"""Public checkpoints to models of this library: every key accounted for, every guess said.

checkpoint -> flat state dict -> layout -> configuration (from shapes, overridden by the caller) -> our names -> model
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..configuration import heads_of_width
from ..errors import UserError
from ..models import CrateModel
from ..models.image_processing import image_processor_of
from .imagenet import imagenet_labels
from .layouts import Layout, recognise
from .loading import load_state_dict

logger = logging.getLogger(__name__)

# a public demo checkpoint: 768 wide, patch 8, 21,842 classes, with 6 heads where the table says 12
_DEMO = {"hidden_size": 768, "patch_size": 8, "num_labels": 21_842}


@dataclass(frozen=True)
class Conversion:
    """A converted model and what was assumed on the way."""

    model: PreTrainedModel
    notes: list[str]


def convert_checkpoint(
    source: str | Path | Mapping[str, Any], num_attention_heads: int | None = None, **config_overrides: Any
) -> PreTrainedModel:
    """Convert a public CRATE checkpoint; the family is inferred from its keys and shapes.

    Args:
        source: a file, or a loaded state dict (see `load_state_dict`).
        num_attention_heads: what a state dict does not hold. None: taken from the table of sizes by the width.
        config_overrides: configuration fields that a state dict does not hold either (pool, ista_step_size,
            ista_lambda, a non-square image_size or patch_size, ...).

    Returns:
        the model, in evaluation mode, in the dtype of the checkpoint.

    Raises:
        ValueError: no CRATE checkpoint; a missing, unexpected or misshapen key; a width that is not in the table
            without num_attention_heads; an unknown configuration field; tensors that are not finite.

    Example:
        >>> model = convert_checkpoint("crate_small.pth")  # doctest: +SKIP
    """
    conversion = convert(source, num_attention_heads, **config_overrides)
    for note in conversion.notes:
        logger.info(note)
    return conversion.model


def convert(
    source: str | Path | Mapping[str, Any], num_attention_heads: int | None = None, **config_overrides: Any
) -> Conversion:
    """As `convert_checkpoint`, with the list of what was assumed and left out."""
    state, extra = load_state_dict(source)
    layout = recognise(state)
    notes = [f"layout: {layout.name}"]
    config = _configure(layout, state, extra, num_attention_heads, config_overrides, notes)
    layout.check(state, config)
    translated, dropped = layout.translate(state)
    notes += dropped

    model_class, options = layout.model_class(state), {}
    if model_class is CrateModel and not any("pooler." in name for name in state):
        options = {"add_pooling_layer": False}  # a backbone that was saved without one
    with torch.device("meta"):
        skeleton = model_class(config, **options)
    prefix = "" if hasattr(skeleton, "crate") else "crate."  # a backbone alone has none before its names
    _account_for(layout, state, skeleton, translated, prefix)
    model = model_class(config, **options)
    dtype = next(tensor.dtype for tensor in translated.values() if tensor.is_floating_point())
    model.to(dtype)  # type: ignore[arg-type]
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in translated.items()})
    model.tie_weights()
    return Conversion(model.eval(), notes)


def convert_to_folder(
    source: str | Path, destination: str | Path, num_attention_heads: int | None = None, **config_overrides: Any
) -> Conversion:
    """Convert a checkpoint and save it as a Hugging Face folder, an image model with its image processor."""
    if Path(destination).is_file():
        raise UserError(f"{destination} is a file: name the folder to write")
    conversion = convert(source, num_attention_heads, **config_overrides)
    conversion.model.save_pretrained(destination)
    if conversion.model.main_input_name == "pixel_values":
        image_processor_of(conversion.model.config).save_pretrained(destination)
    return conversion


def _configure(
    layout: Layout,
    state: Mapping[str, Tensor],
    extra: Mapping[str, Any],
    heads: int | None,
    overrides: dict[str, Any],
    notes: list[str],
) -> Any:
    known = {*layout.config_class.__dataclass_fields__, "num_labels", "id2label", "label2id"}
    for name in overrides:
        if name not in known:
            raise UserError(f"{layout.config_class.__name__} has no field {name!r}")
    for name, tensor in state.items():
        if name.endswith((*layout.sizes_from, layout.subspaces)) and tensor.ndim < 2:
            raise UserError(f"misshapen key {name!r}: expected two or more axes, got shape {tuple(tensor.shape)}")
    fields = {**layout.fields(state, {**extra, **overrides}), **overrides}
    inner = fields.pop("attention_inner_size")
    heads = heads or overrides.get("num_attention_heads") or fields.get("num_attention_heads")
    if heads is None and all(fields.get(name) == value for name, value in _DEMO.items()):
        heads = 6
        notes.append("6 heads: the public demo checkpoint (768 wide, patch 8, 21,842 classes) has 6, not 12")
    if heads is None:
        heads = heads_of_width(fields["hidden_size"])
        if heads is None:
            raise UserError(
                f"a state dict does not hold the number of heads, and the width {fields['hidden_size']} is not in the "
                "table of sizes: pass num_attention_heads (crate convert: --heads)"
            )
        notes.append(f"{heads} heads, from the table of sizes (override with num_attention_heads or --heads)")
    if inner % heads:
        key = next(name for name in state if name.endswith(layout.subspaces))
        raise UserError(f"{heads} heads do not divide the {inner} rows of {key}: pass another num_attention_heads")
    fields.update(num_attention_heads=heads, head_dim=inner // heads)
    if fields.get("num_labels") == 1000 and layout.name == "vision classifier" and "id2label" not in fields:
        fields.update(imagenet_labels())
    return layout.config_class(**fields)


def _account_for(
    layout: Layout, state: Mapping[str, Tensor], model: PreTrainedModel, given: dict[str, Tensor], prefix: str
) -> None:
    """Raise on the first kind of disagreement between a model and a translated state dict; name the public keys."""

    def public(name: str) -> str:
        name = layout.public_name(name)
        bare = name.removeprefix("crate.")
        return name if any(key.startswith("crate.") for key in state) else bare

    shapes = {prefix + name: tensor.shape for name, tensor in model.state_dict().items()}
    for target, source in model.all_tied_weights_keys.items():  # one of two tied names is enough
        if target in given and source in given:
            if not torch.equal(given[target], given[source]):
                raise UserError(
                    f"{public(target)} and {public(source)} are one tensor in this model, and differ in the "
                    "checkpoint: pass tie_word_embeddings=False to keep both"
                )
        elif target in given:
            given[source] = given[target]
        elif source in given:
            given[target] = given[source]
    for problem, names in (
        ("missing", [public(name) for name in shapes if name not in given]),
        ("unexpected", [public(name) for name in given if name not in shapes]),
        (
            "misshapen",
            [
                f"{public(name)} (expected {tuple(shape)}, got {tuple(given[name].shape)})"
                for name, shape in shapes.items()
                if name in given and shape != given[name].shape
            ],
        ),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            sizes = [(key, tuple(state[key].shape)) for key in map(public, layout.sizes_from) if key in state]
            read = ", ".join(f"{key} {shape}" for key, shape in sizes)
            raise UserError(f"{problem} in the checkpoint: {', '.join(names[:5])}{more}; sizes were read from {read}")


__all__ = ["Conversion", "convert", "convert_checkpoint", "convert_to_folder"]
