"""From the `model` section of a recipe to a model, new or from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

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
        ValueError: fields that do not fit, or a checkpoint that is not one or is of another family.
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
        raise ValueError("model.size and model.from exclude each other: a checkpoint has its size")
    return _from_checkpoint(str(source), auto_class, recipe, fields, extra, notes)


def _from_checkpoint(
    source: str, auto_class: Any, recipe: Recipe, fields: dict[str, Any], extra: dict[str, Any], notes: list[str]
) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        hint = "; convert it first: crate convert SOURCE DESTINATION" if Path(source).is_file() else ""
        raise ValueError(f"model.from: no model at {source}{hint} ({str(error).splitlines()[0]})") from error
    if config.model_type != recipe.family.name and not _is_encoder_for(config, recipe):
        raise ValueError(f"model.from: {source} is a {config.model_type}, the recipe asks for {recipe.family.name}")
    if _is_encoder_for(config, recipe):
        return _classifier_from_encoder(source, config, auto_class, recipe, fields, extra, notes)
    old_labels = config.num_labels
    for name, value in fields.items():
        setattr(config, name, value)
    if config.num_labels != old_labels and "id2label" in fields:
        notes.append(f"the head of {source} has {old_labels} classes, the data have {config.num_labels}: a new head")
    model, loading = auto_class.from_pretrained(
        source, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **extra
    )
    _explain_loading(source, model, loading, notes)
    return model


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
    raise ValueError(f"model.from: {source} is a vit_mae; transformers' ViT does not read it, use a vit checkpoint")


def _explain_loading(source: str, model: PreTrainedModel, loading: Any, notes: list[str]) -> None:
    """Say which parts are new; refuse when the backbone is among them."""
    missing = sorted(loading["missing_keys"])
    mismatched = sorted(entry[0] if isinstance(entry, tuple) else entry for entry in loading["mismatched_keys"])
    prefix = f"{model.base_model_prefix}."
    broken = [name for name in [*missing, *mismatched] if name.startswith(prefix)]
    if broken:
        raise ValueError(f"model.from: {source} does not fit the model: {', '.join(broken[:4])} missing or misshapen")
    if missing:
        notes.append(f"new, not in {source}: {', '.join(missing)}")


__all__ = ["build_model"]
