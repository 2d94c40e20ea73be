"""From the `model` section of a recipe to a model, new or from a checkpoint."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from ..configuration import CrateMAEConfig
from ..configuration.validation import as_pair, field_message
from ..errors import MissingPackageError, UserError, one_line
from ..models.modeling_base import check_finite
from ..models.opening import few, misfits, open_config, open_weights
from ..recipes.checks import near
from ..recipes.schema import Recipe

_HALF = (torch.float16, torch.bfloat16)  # too coarse for the steps of an optimizer


class AutoClass(Protocol):
    """One of transformers' Auto classes, as AutoModelForImageClassification."""

    def from_config(self, config: PreTrainedConfig, **keywords: Any) -> PreTrainedModel:
        """A new model of a configuration."""
        ...


def build_model(
    recipe: Recipe, auto_class: AutoClass, data_fields: dict[str, Any] | None = None, notes: list[str] | None = None
) -> PreTrainedModel:
    """Build the model of a recipe.

    Args:
        auto_class: transformers' Auto class of the task.
        data_fields: configuration fields that the data decide (id2label, vocab_size, ...); the recipe's fields go
            before them.
        notes: receives a line for every part of a checkpoint that is not used, and for every new part.

    Raises:
        ValueError: fields that do not fit, or a checkpoint that is not one, is damaged or of another family.
    """
    notes = notes if notes is not None else []
    fields = {**(data_fields or {}), **recipe.model_fields}
    attention = fields.pop("attn_implementation", None)
    extra = {"attn_implementation": attention} if attention else {}
    torch.manual_seed(recipe.seed)
    source = recipe.model.get("from")
    if source is None:
        return _new_model(recipe, auto_class, recipe.family.build_config(recipe.model.get("size"), fields), extra)
    if recipe.model.get("size"):
        raise UserError("model.size and model.from exclude each other: a checkpoint has its size")
    try:
        model = _from_checkpoint(str(source), auto_class, recipe, fields, extra, notes)
    except UserError as error:
        raise UserError(f"model.from: {error}") from error
    if "dtype" not in fields and model.dtype in _HALF:
        notes.append(f"the weights of {source} are {str(model.dtype).removeprefix('torch.')}, trained in float32")
        nn.Module.float(model)
        model.config.dtype = torch.float32
    redraw(model, recipe.model.get("redraw", []), notes)
    return model


def _new_model(
    recipe: Recipe, auto_class: AutoClass, config: PreTrainedConfig, extra: dict[str, Any]
) -> PreTrainedModel:
    try:
        return auto_class.from_config(config, **extra)
    except ImportError as error:  # of an attention that a package brings
        raise MissingPackageError(f"model.attn_implementation: {one_line(error)}") from error
    except Exception as error:  # transformers checks some fields of its own models where it uses them
        if not recipe.family.is_baseline:
            raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"transformers builds no {recipe.family.name} of these model fields ({reason})") from error


def _from_checkpoint(
    source: str, auto_class: AutoClass, recipe: Recipe, fields: dict[str, Any], extra: dict[str, Any], notes: list[str]
) -> PreTrainedModel:
    config = open_config(source)
    if config.model_type != recipe.family.name and not _is_encoder_for(config, recipe):
        raise UserError(f"{source} is a {config.model_type}, the recipe asks for {recipe.family.name}")
    if _is_encoder_for(config, recipe):
        return _classifier_from_encoder(source, config, auto_class, recipe, fields, extra, notes)
    old = _names_by_class(config)
    _set_fields(config, fields)
    new = _names_by_class(config)
    model, loading = open_weights(source, auto_class, config, **extra)
    _explain_loading(source, model, loading, notes)
    check_finite(model, source)
    if "id2label" in fields and len(new) != len(old):
        notes.append(f"the head of {source} has {len(old)} classes, the data have {len(new)}: a new head")
    elif "id2label" in fields and new != old and not all(name.startswith("LABEL_") for name in old.values()):
        notes.append(f"the head of {source} knows {_first_names(old)}, the data {_first_names(new)}: a new head")
        _renew_head(model, len(new))
    return model


def model_without_weights(
    recipe: Recipe, auto_class: AutoClass, data_fields: Mapping[str, Any] | None = None
) -> PreTrainedModel:
    """The model of a recipe on torch's meta device: its parts and shapes, no numbers, and no weights read.

    Args:
        auto_class, data_fields: as of `build_model`.

    Raises:
        ValueError: fields that do not fit, or a checkpoint without a configuration of the family.
    """
    fields = {**(data_fields or {}), **recipe.model_fields}
    fields.pop("attn_implementation", None)
    source = recipe.model.get("from")
    with torch.device("meta"):
        if source is None:
            return _new_model(recipe, auto_class, recipe.family.build_config(recipe.model.get("size"), fields), {})
        config = open_config(str(source))
        if _is_encoder_for(config, recipe):
            return _classifier_without_weights(str(source), config, fields)
        if config.model_type != recipe.family.name:
            raise UserError(f"{source} is a {config.model_type}, the recipe asks for {recipe.family.name}")
        _set_fields(config, fields)
        return auto_class.from_config(config)


def _classifier_without_weights(source: str, config: PreTrainedConfig, fields: dict[str, Any]) -> PreTrainedModel:
    if config.model_type != "crate_mae":
        raise UserError(f"{source} is a vit_mae; transformers' ViT does not read it, use a vit checkpoint")
    from ..interop.transfer import classifier_of_autoencoder  # only this path needs it
    from ..models.modeling_crate_mae import CrateMAEModel

    encoder = CrateMAEModel(_with_patches_of(cast(CrateMAEConfig, config), fields))
    return classifier_of_autoencoder(encoder, **fields)


@torch.no_grad()
def redraw(model: PreTrainedModel, parts: Sequence[str], notes: list[str]) -> None:
    """Draw parts of a model anew, as they are in a new model of its configuration.

    Args:
        parts: names of modules or tensors, of one segment of their path or several: "patch_embeddings",
            "patch_embeddings.projection.weight", "layers.0".
        notes: receives a line with the tensors that are new.

    Raises:
        UserError: the model has no part of a name; with the nearest one.
    """
    if not parts:
        return
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    chosen: dict[str, list[str]] = {part: [name for name in tensors if f".{part}." in f".{name}."] for part in parts}
    for part, names in chosen.items():
        if not names:
            known = dict.fromkeys(segment for name in tensors for segment in name.split(".") if not segment.isdecimal())
            raise UserError(f"model.redraw: the model has no part {part!r}{near(part, known)}")
    new = type(model)(model.config).state_dict()
    drawn = [name for name in tensors if any(name in names for names in chosen.values()) and name in new]
    for name in drawn:
        tensors[name].copy_(new[name])
    notes.append(f"drawn anew (model.redraw): {', '.join(drawn)}")


def _names_by_class(config: PreTrainedConfig) -> dict[int, str]:
    """The name of each class by its number, whatever the order in the file."""
    return {int(number): str(name) for number, name in (config.id2label or {}).items()}


def _first_names(names: Mapping[int, str]) -> str:
    """The names of the first three classes, with their numbers."""
    shown = [f"{names[number]} ({number})" for number in sorted(names)[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def _set_fields(config: PreTrainedConfig, fields: Mapping[str, Any]) -> None:
    """Set fields of a configuration, and check the whole configuration again."""
    try:
        for name, value in fields.items():
            setattr(config, name, value)
        cast(Any, config).validate()  # huggingface_hub's strict dataclasses have it
    except StrictDataclassError as error:
        raise UserError(field_message(error)) from error


def _renew_head(model: PreTrainedModel, num_labels: int) -> None:
    """Draw the linear maps to the classes anew. The backbone keeps its weights."""
    for name, module in model.named_modules():
        own = not name.startswith(f"{model.base_model_prefix}.")
        if own and isinstance(module, nn.Linear) and module.out_features == num_labels:
            for parameter in module.parameters():
                vars(parameter)["_is_hf_initialized"] = False  # transformers guards what it has loaded
            model._init_weights(module)


def _is_encoder_for(config: PreTrainedConfig, recipe: Recipe) -> bool:
    return (config.model_type, recipe.family.name) in (("crate_mae", "crate_vision"), ("vit_mae", "vit"))


def _classifier_from_encoder(
    source: str,
    config: PreTrainedConfig,
    auto_class: AutoClass,
    recipe: Recipe,
    fields: dict[str, Any],
    extra: dict[str, Any],
    notes: list[str],
) -> PreTrainedModel:
    """Build a classifier on the encoder of a masked autoencoder."""
    if config.model_type == "crate_mae":
        from ..interop.transfer import classifier_of_autoencoder  # only this path needs it
        from ..models.modeling_crate_mae import CrateMAEModel

        config = cast(CrateMAEConfig, config)
        encoder, loading = open_weights(source, AutoModel, _with_patches_of(config, fields), **extra)
        _explain_loading(source, encoder, loading, notes)
        check_finite(encoder, source)
        notes.append(f"a classifier on the encoder of the autoencoder {source}: its head is new")
        classifier = classifier_of_autoencoder(cast(CrateMAEModel, encoder), **fields)
        before, after = config.patch_grid, classifier.config.patch_grid
        if before != after:
            sides = f"from {before[0]} x {before[1]} to {after[0]} x {after[1]} patches"
            notes.append(f"positions of {source} resampled {sides}")
        return classifier
    raise UserError(f"{source} is a vit_mae; transformers' ViT does not read it, use a vit checkpoint")


def _with_patches_of(config: CrateMAEConfig, fields: Mapping[str, Any]) -> CrateMAEConfig:
    """The configuration of an encoder with patches of the size that a classifier is to have, and as many as before."""
    changed = copy.deepcopy(config)
    if "patch_size" in fields:
        (rows, columns), (height, width) = config.patch_grid, as_pair(fields["patch_size"])
        _set_fields(changed, {"patch_size": fields["patch_size"], "image_size": (rows * height, columns * width)})
    return changed


def _explain_loading(source: str, model: PreTrainedModel, loading: Mapping[str, Any], notes: list[str]) -> None:
    """Note which parts are new; refuse a checkpoint that does not fit the backbone."""
    problems = misfits(model, loading, head_may_be_new=True)
    if problems:
        reasons = "; ".join(f"{few(names)} {kind}" for kind, names in problems.items())
        raise UserError(f"{source} does not fit the model: {reasons}")
    notes.extend(loading.get("resized", ()))
    if loading["missing_keys"]:
        notes.append(f"new, not in {source}: {', '.join(sorted(loading['missing_keys']))}")
    misshapen = sorted(loading["mismatched_keys"])
    if misshapen:
        shapes = (f"{name} ({tuple(found)} there, {tuple(here)} here)" for name, found, here in misshapen)
        notes.append(f"new, of another shape in {source}: {', '.join(shapes)}")


__all__ = ["AutoClass", "build_model", "model_without_weights", "redraw"]
