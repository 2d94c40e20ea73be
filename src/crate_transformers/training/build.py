"""From the `model` section of a recipe to a model, new or from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from ..errors import UserError
from ..models.modeling_base import check_finite
from .recipe import Recipe


def build_model(
    recipe: Recipe, auto_class: Any, data_fields: dict[str, Any] | None = None, notes: list[str] | None = None
) -> PreTrainedModel:
    """The model of a recipe.

    Args:
        auto_class: transformers' Auto class of the task (AutoModelForImageClassification, ...).
        data_fields: configuration fields that the data decide (id2label, vocab_size, ...); the recipe's own win.
        notes: receives a line for everything that was decided silently otherwise.

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
        config = recipe.family.build_config(recipe.model.get("size"), fields)
        return auto_class.from_config(config, **extra)
    if recipe.model.get("size"):
        raise UserError("model.size and model.from exclude each other: a checkpoint has its size")
    return _from_checkpoint(str(source), auto_class, recipe, fields, extra, notes)


def _from_checkpoint(
    source: str, auto_class: Any, recipe: Recipe, fields: dict[str, Any], extra: dict[str, Any], notes: list[str]
) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        hint = "; convert it first: crate convert SOURCE DESTINATION" if Path(source).is_file() else ""
        raise UserError(f"model.from: no model at {source}{hint} ({str(error).splitlines()[0]})") from error
    if config.model_type != recipe.family.name and not _is_encoder_for(config, recipe):
        raise UserError(f"model.from: {source} is a {config.model_type}, the recipe asks for {recipe.family.name}")
    if _is_encoder_for(config, recipe):
        return _classifier_from_encoder(source, config, auto_class, recipe, fields, extra, notes)
    old = list(config.id2label.values())
    for name, value in fields.items():
        setattr(config, name, value)
    new = list(config.id2label.values())
    try:
        model, loading = auto_class.from_pretrained(
            source, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **extra
        )
    except SafetensorError as error:
        raise UserError(f"model.from: the weights in {source} are damaged: {error}") from error
    _explain_loading(source, model, loading, notes)
    check_finite(model, f"model.from: {source}")
    if "id2label" in fields and len(new) != len(old):
        notes.append(f"the head of {source} has {len(old)} classes, the data have {len(new)}: a new head")
    elif "id2label" in fields and new != old and not all(str(name).startswith("LABEL_") for name in old):
        notes.append(f"the head of {source} knows {_few(old)}, the data {_few(new)}: a new head")
        _renew_head(model, len(new))
    return model


def _few(names: list[Any]) -> str:
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")


def _renew_head(model: PreTrainedModel, num_labels: int) -> None:
    """Draw the last layer anew: of the parts that are not the backbone's, the linear maps to the classes."""
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
    auto_class: Any,
    recipe: Recipe,
    fields: dict[str, Any],
    extra: dict[str, Any],
    notes: list[str],
) -> PreTrainedModel:
    """A classifier on the encoder of a masked autoencoder."""
    if config.model_type == "crate_mae":
        from ..interop.transfer import classifier_of_autoencoder  # only this path needs it

        encoder = AutoModel.from_pretrained(source, **extra)
        notes.append(f"a classifier on the encoder of the autoencoder {source}: its head is new")
        return classifier_of_autoencoder(encoder, **fields)
    raise UserError(f"model.from: {source} is a vit_mae; transformers' ViT does not read it, use a vit checkpoint")


def _explain_loading(source: str, model: PreTrainedModel, loading: Any, notes: list[str]) -> None:
    """Say which parts are new; refuse when the backbone is among them."""
    missing = sorted(loading["missing_keys"])
    mismatched = sorted(entry[0] if isinstance(entry, tuple) else entry for entry in loading["mismatched_keys"])
    prefix = f"{model.base_model_prefix}."
    broken = [name for name in [*missing, *mismatched] if name.startswith(prefix)]
    if broken:
        raise UserError(f"model.from: {source} does not fit the model: {', '.join(broken[:4])} missing or misshapen")
    if missing:
        notes.append(f"new, not in {source}: {', '.join(missing)}")


__all__ = ["build_model"]
