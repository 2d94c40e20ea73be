"""Public checkpoints to models of this library: no key is passed over, and every assumption is told.

checkpoint -> flat state dict -> layout -> configuration (from shapes, overridden by the caller) -> our names -> model
"""

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration import heads_of_width
from ..configuration.validation import field_message
from ..errors import UserError
from ..files import give_usual_modes, write_bytes
from ..models import CrateModel
from ..models.image_processing import published_processor_of
from ..report.model_card import CardFacts, model_card
from .imagenet import imagenet_labels
from .layouts import Layout, recognise
from .loading import LEFT_OUT, WRAPPERS, load_state_dict

logger = logging.getLogger(__name__)

# a public demo checkpoint: 768 wide, patch 8, 21,842 classes, with 6 heads where the table says 12
_DEMO = {"hidden_size": 768, "patch_size": 8, "num_labels": 21_842}

# fields that follow from the shapes of a checkpoint: an override cannot change them
_FIXED_BY_SHAPES = (
    "hidden_size",
    "num_hidden_layers",
    "decoder_num_hidden_layers",
    "dictionary_ratio",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
    "head_dim",
)
_NO_OVERRIDES = ("architectures", "dtype", "transformers_version")  # fields that a conversion fills in


@dataclass(frozen=True)
class Conversion:
    """A converted model and what was assumed on the way."""

    model: PreTrainedModel
    notes: list[str]


def convert_checkpoint(
    source: str | Path | Mapping[str, Any], num_attention_heads: int | None = None, **config_overrides: object
) -> PreTrainedModel:
    """Convert a public CRATE checkpoint; the family is inferred from its keys and shapes.

    Args:
        source: a file, or a loaded state dict (see `load_state_dict`).
        num_attention_heads: what a state dict does not hold. None: taken from the table of sizes by the width.
        config_overrides: configuration fields that a state dict does not hold either (pool, ista_step_size,
            ista_lambda, a non-square image_size or patch_size, ...).

    Returns:
        the model, in evaluation mode, in the dtype of the checkpoint; of several, in the one that holds them all.

    Raises:
        ValueError: no CRATE checkpoint; a missing, unexpected or misshapen key, or one that is there twice; a width
            that is not in the table without num_attention_heads; an unknown configuration field, or a value that does
            not fit it or the shapes; tensors that are not finite, or not of plain numbers.

    Example (tests skip it, for it needs a file):
        >>> model = convert_checkpoint("crate_small.pth")  # doctest: +SKIP
    """
    conversion = convert(source, num_attention_heads, **config_overrides)
    for note in conversion.notes:
        logger.info(note)
    return conversion.model


def convert(
    source: str | Path | Mapping[str, Any], num_attention_heads: int | None = None, **config_overrides: object
) -> Conversion:
    """As `convert_checkpoint`; returns the model together with a list of what was assumed and left out."""
    state, extra = load_state_dict(source)
    layout = recognise(state)
    notes = [f"layout: {layout.name}"]
    if layout.assumes:
        notes.append(f"the file does not say, and is taken so: {layout.assumes}")
    others = [name for name in WRAPPERS if isinstance(extra.get(name), Mapping)]
    others += extra.get(LEFT_OUT, [])
    notes += [f"{name} is left out: the weights lie beside it" for name in others]
    translated, dropped = layout.translate(state)
    layout.check_layers(state)
    config = _configure(layout, state, extra, num_attention_heads, config_overrides, notes)
    layout.check(state, config)
    notes += dropped
    dtype = _common_dtype(filter(Tensor.is_floating_point, translated.values()), notes)
    translated = {
        name: tensor.to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in translated.items()
    }

    model_class, options = layout.model_class(state), {}
    if model_class is CrateModel and not any("pooler." in name for name in state):
        options = {"add_pooling_layer": False}  # a backbone that was saved without one
    with torch.device("meta"):
        skeleton = model_class(config, **options)
    prefix = "" if hasattr(skeleton, "crate") else "crate."  # a backbone alone has none before its names
    _account_for(layout, state, skeleton, translated, prefix)
    model = model_class(config, **options)
    nn.Module.to(model, dtype)
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in translated.items()})
    model.tie_weights()
    return Conversion(model.eval(), notes)


def convert_to_folder(
    source: str | Path, destination: str | Path, num_attention_heads: int | None = None, **config_overrides: object
) -> Conversion:
    """Convert a checkpoint and save it as a Hugging Face folder, with a model card that says what was assumed.

    An image model gets its image processor beside it.

    Args:
        destination: the folder; it is made where there is none. The others are those of `convert_checkpoint`.

    Raises:
        ValueError: `destination` is a file, or the checkpoint is refused (see `convert_checkpoint`).
    """
    if Path(destination).is_file():
        raise UserError(f"{destination} is a file: name the folder to write")
    conversion = convert(source, num_attention_heads, **config_overrides)
    conversion.model.save_pretrained(destination)
    if conversion.model.main_input_name == "pixel_values":
        published_processor_of(conversion.model.config).save_pretrained(destination)
    write_bytes(Path(destination) / "README.md", _card(conversion, Path(source), Path(destination)).encode())
    give_usual_modes(Path(destination))
    return conversion


def _card(conversion: Conversion, source: Path, destination: Path) -> str:
    package = f"crate-transformers {version('crate-transformers')}"
    origin = f"Converted from `{source.name}` with `crate convert` ({package}). What that read and assumed:"
    licence = "Whoever made the checkpoint says under which licence its weights are."
    facts = CardFacts(
        title=destination.absolute().name,
        config=conversion.model.config,
        parameters=conversion.model.num_parameters(),
        origin=[origin, "\n".join(f"* {note}" for note in conversion.notes), licence],
    )
    return model_card(facts)


def _common_dtype(tensors: Iterable[Tensor], notes: list[str]) -> torch.dtype:
    """The type that holds the numbers of all tensors as they are."""
    dtypes = list(dict.fromkeys(tensor.dtype for tensor in tensors))
    dtype = reduce(torch.promote_types, dtypes)
    if len(dtypes) > 1:
        notes.append(f"the checkpoint mixes {', '.join(map(str, dtypes))}: the model is of {dtype}")
    return dtype


def _configure(
    layout: Layout,
    state: Mapping[str, Tensor],
    extra: Mapping[str, Any],
    heads: int | None,
    overrides: dict[str, Any],
    notes: list[str],
) -> PreTrainedConfig:
    """The configuration that the checkpoint's shapes and the caller's overrides make; `notes` gets what was assumed."""
    overrides = _checked(layout, {**overrides, **({} if heads is None else {"num_attention_heads": heads})})
    read = layout.fields(state, {"model_args": extra.get("model_args"), **overrides})
    inner = read.pop("attention_inner_size")
    fields = {**read, **overrides}
    heads = fields.get("num_attention_heads")
    said = read.get("num_attention_heads")
    if said is not None and heads != said:
        raise UserError(f"the checkpoint says that it has {said} heads, got {heads} (num_attention_heads, --heads)")
    if said is not None:
        notes.append(f"{said} heads, as the checkpoint says")
    if heads is None and all(fields.get(name) == value for name, value in _DEMO.items()):
        heads = 6
        notes.append("6 heads: the public demo checkpoint (768 wide, patch 8, 21,842 classes) has 6, not 12")
    if heads is None:
        heads = heads_of_width(fields["hidden_size"], layout.sizes)
        if heads is None:
            raise UserError(
                f"a state dict does not hold the number of heads, and the width {fields['hidden_size']} is not in the "
                "table of sizes: pass num_attention_heads (in commands: --heads)"
            )
        notes.append(f"{heads} heads, from the table of sizes (override with num_attention_heads or --heads)")
    if not isinstance(heads, int) or heads < 1:
        raise UserError(f"the number of heads must be a whole number from 1 on, got {heads!r}")
    if inner % heads:
        key = next(name for name in state if name.endswith(layout.subspaces))
        raise UserError(f"{heads} heads do not divide the {inner} rows of {key} (num_attention_heads, --heads)")
    read["head_dim"] = inner // heads
    for name in _FIXED_BY_SHAPES:
        if name in overrides and read.get(name) not in (None, overrides[name]):
            raise UserError(f"{name} is {read[name]} by the checkpoint's shapes, got {overrides[name]}: leave it out")
    fields.update(num_attention_heads=heads, head_dim=inner // heads)
    if fields.get("num_labels") == 1000 and layout.image_labels and "id2label" not in fields:
        fields.update(imagenet_labels())
    if "id2label" in fields and len(fields["id2label"]) != fields.get("num_labels", len(fields["id2label"])):
        raise UserError(f"id2label names {len(fields['id2label'])} classes, the checkpoint has {fields['num_labels']}")
    if "id2label" in fields:
        fields.setdefault("label2id", {str(name): number for number, name in fields["id2label"].items()})
    try:
        return layout.config_class(**fields)
    except (StrictDataclassError, ValueError) as error:
        told = field_message(error) if isinstance(error, StrictDataclassError) else str(error)
        raise UserError(f"{told}; {_sizes_read(layout, state)}") from error


def _checked(layout: Layout, overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides, each of them a field of the configuration and of its type."""
    known = {*layout.config_class.__dataclass_fields__, "num_labels"} - set(_NO_OVERRIDES)
    if not isinstance(overrides.get("id2label", {}), Mapping):
        raise UserError(f"id2label must be a table, got {overrides['id2label']!r}")
    if "label2id" in overrides and "id2label" not in overrides:
        raise UserError("label2id follows from id2label: set that")
    blank = layout.config_class()
    for name, value in overrides.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{layout.config_class.__name__} has no field {name!r} to set{hint}")
        try:
            if name != "num_labels":  # no field but a count of the others, which the configuration checks
                setattr(blank, name, value)
        except StrictDataclassError as error:
            raise UserError(field_message(error)) from error
    return overrides


def _account_for(
    layout: Layout, state: Mapping[str, Tensor], model: PreTrainedModel, given: dict[str, Tensor], prefix: str
) -> None:
    """Raise on the first kind of disagreement between a model and a translated state dict; name the public keys."""

    is_wrapped = any(key.startswith("crate.") for key in state)

    def public(name: str) -> str:
        """Our name of a tensor as the checkpoint writes it."""
        name = layout.public_name(name)
        return name if is_wrapped else name.removeprefix("crate.")

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
        ("missing", [name for name in shapes if name not in given]),
        ("unexpected", [name for name in given if name not in shapes]),
        ("misshapen", [name for name, shape in shapes.items() if name in given and shape != given[name].shape]),
    ):
        if names:
            told = [public(name) for name in names[:5]]
            if problem == "misshapen":
                both = ((tuple(shapes[name]), tuple(given[name].shape)) for name in names[:5])
                told = [f"{name} (expected {a}, got {b})" for name, (a, b) in zip(told, both, strict=True)]
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise UserError(f"{problem} in the checkpoint: {', '.join(told)}{more}; {_sizes_read(layout, state)}")


def _sizes_read(layout: Layout, state: Mapping[str, Tensor]) -> str:
    """What a configuration was inferred from: "sizes were read from cls_token (1, 1, 48), ..."."""
    names = (name for key in layout.sizes_from for name in (key, key.removeprefix("crate.")))
    sizes = (f"{name} {tuple(state[name].shape)}" for name in dict.fromkeys(names) if name in state)
    return f"sizes were read from {', '.join(sizes)}"


__all__ = ["Conversion", "convert", "convert_checkpoint", "convert_to_folder"]
