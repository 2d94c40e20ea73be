"""Opening what was saved: a configuration, a model, of a folder or of the hub; see also inputs.py.

Whatever is wrong with the files is told in one line that names them. Sizes that config.json asks for are compared with
those of the weights before a model is built, in bounded time and memory; no code of a folder is ever run.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from .. import models
from ..configuration import MODEL_FAMILIES
from ..configuration.validation import MOST_LABELS, MOST_LAYERS, field_message
from ..errors import UserError
from .modeling_base import CratePreTrainedModel, check_finite
from .places import locate
from .quiet import quiet_transformers
from .resizing import with_sizes_of
from .resizing_baselines import load_resized, sizes_differ
from .stored import read_json, stored_size, stored_tensors

_SHOWN = 3  # names in a message
_MOST_TOKENS = 1 << 31

# what transformers, safetensors and torch raise of files that do not fit
_OF_FILES = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)


@contextmanager
def told_as_users(what: str, source: str | Path, kinds: tuple[type[Exception], ...] = _OF_FILES) -> Iterator[None]:
    """Tell errors of these kinds as the user's, of the files at `source`; errors of the machine stay as they are."""
    try:
        with quiet_transformers(logging.CRITICAL):  # what it says of errors is in the exceptions
            yield
    except kinds as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"no usable {what} at {source}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, StrictDataclassError):
        return field_message(error)
    line = next(iter(str(error).splitlines()), "")
    return line if isinstance(error, _OF_FILES) and line else f"{type(error).__name__}: {line}"


def open_config(source: str | Path) -> PreTrainedConfig:
    """The configuration of a model.

    Raises:
        UserError: nothing there, a file instead of a folder, or a config.json that does not fit.
    """
    place = locate(source)
    if isinstance(place, Path):
        if place.is_file():
            raise UserError(f"{source} is a file: convert it first, crate convert {source} FOLDER")
        _check_config_file(place)
    # whatever the configurations of transformers make of wrong values
    with told_as_users("model", source, (Exception,)):
        return AutoConfig.from_pretrained(place, trust_remote_code=False)


def _check_config_file(folder: Path) -> None:
    file = folder / "config.json"
    if not file.is_file():
        is_run = (folder / "recipe.yaml").is_file()
        hint = ", for it is a run that has not ended: go on with crate train --resume" if is_run else ""
        raise UserError(f"no usable model at {folder}: it has no config.json{hint}")
    content = read_json(file)
    if not isinstance(content.get("model_type"), str):
        raise UserError(f"{file} is damaged: model_type must be a name, got {content.get('model_type')!r}")
    if "auto_map" in content and content["model_type"] not in CONFIG_MAPPING:
        raise UserError(
            f"no usable model at {folder}: transformers does not recognize this architecture, "
            f"{content['model_type']!r}, and custom code that a folder brings is not run"
        )
    names = content.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"{file} is damaged: architectures must be a list of names, got {names!r}")
    labels = content.get("num_labels")
    if labels is not None and not (isinstance(labels, int) and 0 <= labels <= MOST_LABELS):
        raise UserError(f"{file} is damaged: num_labels must be a whole number up to {MOST_LABELS:,}, got {labels!r}")
    _check_tokens(file, content)
    for name in ("attn_implementation", "_attn_implementation"):
        if not isinstance(content.get(name), str | None):
            raise UserError(f"{file} is damaged: {name} must be a name, got {content[name]!r}")
    for name in ("dtype", "torch_dtype"):
        value = content.get(name)
        kind = getattr(torch, value, None) if isinstance(value, str) else None
        if value is not None and not (isinstance(kind, torch.dtype) and kind.is_floating_point and kind.itemsize > 1):
            raise UserError(f"{file} is damaged: {name} must be a type of floating-point numbers, got {value!r}")


def _check_generation_file(folder: Path) -> None:
    """What `generate` reads beside the model: tokens are whole numbers, switches are true or false."""
    file = folder / "generation_config.json"
    content = read_json(file) if file.is_file() else {}
    _check_tokens(file, content)
    for name, value in content.items():
        if name.startswith(("output_", "do_", "use_")) and not isinstance(value, bool | None):
            raise UserError(f"{file} is damaged: {name} must be true or false, got {value!r}")


def _check_tokens(file: Path, content: Mapping[str, Any]) -> None:
    for name, value in content.items():
        tokens = value if isinstance(value, list) else [value]
        if name.endswith("_token_id") and not all(
            token is None or (isinstance(token, int) and abs(token) < _MOST_TOKENS) for token in tokens
        ):
            raise UserError(f"{file} is damaged: {name} must be the number of a token, got {value!r}")


def open_weights(
    source: str | Path, kind: Any, config: PreTrainedConfig | None = None, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """A model with the weights of a folder or hub name, and transformers' account of what it found.

    Args:
        kind: a model class, or one of transformers' Auto classes.
        config: where it is not the saved one. options: of `from_pretrained`.

    Returns:
        (model, loading): loading has missing_keys, unexpected_keys and mismatched_keys, whose weights are new; of image
        models also "resized", a line for each thing that was done to take another image or patch size.

    Raises:
        UserError: nothing there, damaged weights, or weights of another size than config.json says.
    """
    place = locate(source)
    own = open_config(source)
    # of a foreign configuration, or a pickle, transformers may make any error; our own models keep the trace of theirs
    is_ours = own.model_type in MODEL_FAMILIES and isinstance(place, Path) and stored_tensors(place) is not None
    resized = config is not None and sizes_differ(config, own)  # of transformers' own image models

    def load(asked: PreTrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
        return kind.from_pretrained(
            place,
            config=asked,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in `loading`
            trust_remote_code=False,
            **options,
        )

    with told_as_users("model", source, _OF_FILES if is_ours else (Exception,)):
        if isinstance(place, Path):
            _check_generation_file(place)
        if isinstance(place, Path) and getattr(own, "quantization_config", None) is None:
            _check_sizes(place, kind, own)
            if config is not None:
                asked = with_sizes_of(config, own) if is_ours or resized else config
                _check_sizes(place, kind, asked, head_may_be_new=True)
        if config is not None and resized:
            return load_resized(load, config, own, str(source))
        return load(own if config is None else config)


def _check_sizes(folder: Path, kind: Any, config: PreTrainedConfig, head_may_be_new: bool = False) -> None:
    """Compare what a configuration asks for with what the weights hold; cheapest first, nothing is allocated."""
    stored = stored_size(folder)
    for name in ("num_hidden_layers", "decoder_num_hidden_layers"):
        layers = getattr(config, name, None) or 0
        if isinstance(layers, int) and layers > min(stored.tensors, MOST_LAYERS):
            raise UserError(
                f"the configuration says {layers} layers ({name}), the weights are {stored.tensors} tensors"
            )
    image, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
    if isinstance(image, int) and isinstance(patch, int) and patch and (image // patch) ** 2 > stored.numbers:
        patches = (image // patch) ** 2
        raise UserError(f"the configuration says {patches} patches, the weights are {stored.numbers:,} numbers")
    build = getattr(kind, "from_config", None) or kind._from_config
    with torch.device("meta"):
        skeleton = build(config)
    whole = skeleton.base_model if head_may_be_new else skeleton
    asked = sum(parameter.numel() for parameter in whole.parameters())
    if asked > 2 * stored.numbers:  # what is missing or misshapen otherwise is told by name, afterwards
        raise UserError(f"the configuration asks for {asked:,} parameters, the weights are {stored.numbers:,} numbers")
    parameters = dict(skeleton.named_parameters())
    prefix = f"{skeleton.base_model_prefix}."
    for name, tensor in (stored_tensors(folder) or {}).items():
        if not tensor.is_float and parameters.keys() & {name, prefix + name, name.removeprefix(prefix)}:
            raise UserError(f"{name} is of whole numbers ({tensor.type}): expected floating-point numbers")


def open_model(source: str | Path, kind: Any = None) -> PreTrainedModel:
    """A whole model, every weight accounted for and finite, in evaluation mode, on the CPU.

    Args:
        kind: a model class, or one of transformers' Auto classes; None is the class that config.json names.

    Raises:
        UserError: nothing there, weights that are damaged, missing, misshapen, or of more layers than the model.
    """
    config = open_config(source)
    kind = _saved_class(source, config) if kind is None else kind
    model, loading = open_weights(source, kind)
    missing = loading["missing_keys"]
    takes_pooler = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    if missing and takes_pooler and all(name.startswith("pooler.") for name in missing):  # it was saved without
        model, loading = open_weights(source, type(model), add_pooling_layer=False)
    problems = misfits(model, loading)
    if problems:
        told = {"missing": "its weights lack {}", "misshapen": "{}", "left over": "the model has no place for {}"}
        texts = [told[kind].format(few(names)) for kind, names in problems.items()]
        raise UserError(f"{source} is no {type(model).__name__}: {'; '.join(texts)}")
    check_finite(model, str(source))
    return model.eval()


def _saved_class(source: str | Path, config: PreTrainedConfig) -> Any:
    """The class that config.json names; AutoModel where it names none."""
    if not config.architectures:
        return AutoModel
    name = config.architectures[0]
    kind: Any
    try:
        kind = getattr(models, name, None) or getattr(transformers, name, None)
    except (ImportError, RuntimeError):  # transformers loads its parts when they are named
        kind = None
    is_model = isinstance(kind, type) and issubclass(kind, PreTrainedModel)
    if not (is_model and isinstance(config, kind.config_class or ())):
        raise UserError(f"{source} names the architecture {name!r}, which is no model of type {config.model_type}")
    return kind


def misfits(model: PreTrainedModel, loading: Mapping[str, Any], head_may_be_new: bool = False) -> dict[str, list[str]]:
    """What does not fit between a model and the weights it was given, by kind; empty where all fits.

    Args:
        loading: transformers' account. head_may_be_new: look at the backbone alone.

    Returns:
        "missing": names; "misshapen": names with both shapes; "left over": names of layers that the model does not
        have, and in one of our models, loaded as it was saved, of anything.
    """
    prefix = f"{model.base_model_prefix}."
    backbone = prefix if head_may_be_new and model.base_model is not model else ""
    missing = [name for name in loading["missing_keys"] if name.startswith(backbone)]
    misshapen = [
        f"{name} is {tuple(found)} in the weights, {tuple(expected)} in the model"
        for name, found, expected in loading["mismatched_keys"]
        if name.startswith(backbone)
    ]
    stacks = tuple(
        f"{name.removeprefix(prefix)}." for name, module in model.named_modules() if isinstance(module, nn.ModuleList)
    )
    is_whole = isinstance(model, CratePreTrainedModel) and type(model).__name__ in (model.config.architectures or [])
    left_over = [
        name
        for name in loading["unexpected_keys"]
        if name.removeprefix(prefix).startswith(stacks) or (is_whole and not head_may_be_new)
    ]
    found = {"missing": missing, "misshapen": misshapen, "left over": left_over}
    return {kind: sorted(names) for kind, names in found.items() if names}


def few(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


__all__ = ["few", "misfits", "open_config", "open_model", "open_weights", "told_as_users"]
