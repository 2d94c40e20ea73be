"""From a file, or whatever a training script saved, to a flat state dict. Nothing in a file is ever executed."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student")
_PREFIXES = ("module.", "_orig_mod.")


def load_state_dict(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        source: a .safetensors file, a file of `torch.save` (read with weights_only), or the loaded dictionary. The
            tensors may sit under `state_dict` or `model`, their names may carry `module.` or `_orig_mod.`.

    Returns:
        the tensors by name, without wrappers and prefixes, and what else the file held (e.g. nanoGPT's model_args).

    Raises:
        ValueError: no checkpoint, a truncated one, one with code in it, or one with tensors that are not finite.
    """
    content: Any = source if isinstance(source, Mapping) else _read(Path(source))
    if not isinstance(content, Mapping):
        raise UserError(f"not a checkpoint: expected a dictionary of tensors, got {type(content).__name__}")
    extra: dict[str, Any] = {}
    while (inner := next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)) is not None:
        extra.update({key: value for key, value in content.items() if key != inner})
        content = content[inner]
    tensors = {_strip(str(key)): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(content)[:8])) or "none"
        raise UserError(f"not a checkpoint: no tensors, and none under {', '.join(_WRAPPERS)}; found keys: {keys}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"the checkpoint is damaged: {name} holds NaN or infinite values")
    return tensors, extra


def _strip(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _read(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"no checkpoint file at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about pickle protocols; what does not load raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise UserError(
                f"{path} is a pickle that holds more than tensors and plain values; it was not loaded, because "
                "loading it would run code. Save its state_dict again, with torch.save or safetensors"
            ) from error
        raise UserError(f"{path} is not a checkpoint, or a damaged one ({error})") from error
    except (RuntimeError, EOFError, SafetensorError, zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} is not a checkpoint, or a truncated one ({type(error).__name__}: {error})") from error


__all__ = ["load_state_dict"]
