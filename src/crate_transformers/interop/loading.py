"""From a file, or whatever a training script saved, to a flat state dict. Nothing in a file is ever executed.

What is read is checked before anything is built of it: each tensor on its own (plain numbers, all of them stored), and
all of them together (no two of one name, no more numbers than the file holds), so that a damaged or a made-up file ends
in one line that names the tensor, in the time and the memory that it takes to read it.
"""

import errno
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import UserError
from ..files import user_path
from .npz import read_npz, tree_of

WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student")
_PREFIXES = ("module.", "_orig_mod.")
_OF_ALL = ("model.", "0.")
LEFT_OUT = "left out"  # under which the parts of a tree of flax that are no weights are told
_DEEPEST = 100  # dictionaries in dictionaries that are still opened
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE_NUMBERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_CHUNK = 1 << 20  # bytes that are read at once when a check sum is computed


def load_state_dict(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Args:
        source: a .safetensors file, a file of `torch.save` (read with weights_only), an .npz archive of flax (see
            npz.py), or the loaded dictionary. The
            tensors may sit under `state_dict` or `model`, their names may carry `module.` or `_orig_mod.`.

    Returns:
        the tensors by name, without wrappers and prefixes, and what else the file held (e.g. nanoGPT's model_args).

    Raises:
        ValueError: no checkpoint, a truncated one, one with code in it, one that contains itself; two tensors of one
            name; a tensor that is not of plain numbers, is empty, repeats fewer numbers than it has, or is not finite.
    """
    content, extra = _unwrap(source if isinstance(source, Mapping) else _read(user_path(source)))
    content, left_out = tree_of(_without_common_prefix(content))
    if left_out:
        extra[LEFT_OUT] = left_out
    keys: dict[str, str] = {}  # as they are in the file, by their name without prefixes
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            continue
        if not isinstance(key, str):
            raise UserError(
                f"not a CRATE checkpoint: its tensors must have names, got a key of type {type(key).__name__}"
            )
        name = _strip(key)
        if name in tensors:
            raise UserError(
                f"the checkpoint holds {name} twice, as {keys[name]!r} and as {key!r}: leave one of them out"
            )
        keys[name], tensors[name] = key, value
    if not tensors:
        keys_found = [key[:40] if isinstance(key, str) else type(key).__name__ for key in list(content)[:8]]
        found = ", ".join(keys_found) or "none"
        raise UserError(f"not a checkpoint: no tensors, and none under {', '.join(WRAPPERS)}; found keys: {found}")
    for name, tensor in tensors.items():
        problem = _problem_of(tensor)
        if problem is not None:
            raise UserError(f"the checkpoint is damaged, or of another kind: {name} {problem}")
    _check_shared(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"the checkpoint is damaged: {name} holds NaN or infinite values")
    return tensors, extra


def _unwrap(content: object) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    """The innermost dictionary that the wrappers lead to, and what lay beside it on the way."""
    if not isinstance(content, Mapping):
        raise UserError(f"not a checkpoint: expected a dictionary of tensors, got {type(content).__name__}")
    extra: dict[str, Any] = {}
    seen = {id(content)}
    while (inner := next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)) is not None:
        extra.update({key: value for key, value in content.items() if key != inner})
        content = content[inner]
        if id(content) in seen:
            raise UserError(f"not a checkpoint: it contains itself, under {inner!r}")
        if len(seen) == _DEEPEST:
            raise UserError(f"not a checkpoint: its tensors lie more than {_DEEPEST} dictionaries deep")
        seen.add(id(content))
    return content, extra


def _without_common_prefix(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Without what wrappers of models put before every name (`model.`, and `0.` of a sequence)."""
    names = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)]
    for prefix in _OF_ALL:
        if names and all(_strip(name).startswith(prefix) for name in names):
            return {key if key not in names else _strip(key).removeprefix(prefix): content[key] for key in content}
    return content


def _strip(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _problem_of(tensor: Tensor) -> str | None:
    """What keeps a tensor from being a weight; None where it is plain numbers, each of them stored."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"is a {type(tensor).__name__}: expected a plain tensor"
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"is {'nested' if tensor.is_nested else tensor.layout}: expected a dense tensor (tensor.to_dense())"
    if tensor.is_quantized:
        return "is quantised: expected floating-point numbers (tensor.dequantize())"
    if tensor.is_meta:
        return "has a shape and no numbers: it was saved from the meta device"
    if tensor.dtype not in (*_FLOATS, *_WHOLE_NUMBERS):
        return f"is of type {tensor.dtype}: expected floating-point numbers of 16 bits or more"
    if tensor.numel() == 0:
        return f"is empty, of shape {tuple(tensor.shape)}"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"has the shape {tuple(tensor.shape)} and stores fewer numbers, which it repeats (tensor.contiguous())"
    return None


def _check_shared(tensors: Mapping[str, Tensor]) -> None:
    """Two names may share a storage (tied weights), so all names together have at most twice what is stored."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, tensors.values())}
    named = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if named > 2 * sum(storages.values()):
        first: dict[int, str] = {}
        for name, tensor in tensors.items():
            other = first.setdefault(tensor.untyped_storage().data_ptr(), name)
            if other != name:
                raise UserError(
                    f"the checkpoint is damaged: its tensors together have more numbers than it stores; {name} and "
                    f"{other}, for one, share theirs"
                )


def _read(path: Path) -> object:
    if path.is_dir():
        hint = ": it holds a model already" if (path / "config.json").is_file() else ""
        raise UserError(f"no checkpoint file at {path}, but a folder{hint}")
    if not path.is_file():
        raise UserError(f"no checkpoint file at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            return read_npz(path)
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what does not load raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise UserError(
                f"{path} is a pickle that holds more than tensors and plain values; it was not loaded, because "
                "loading it would run code. Save its state_dict again, with torch.save or safetensors"
            ) from error
        raise UserError(f"{path} is not a checkpoint, or a damaged one ({error})") from error
    except Exception as error:  # the readers make any kind of damaged bytes; none of our code runs here
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place outside the file
            raise
        raise UserError(f"{path} is not a checkpoint, or a truncated one ({type(error).__name__}: {error})") from error


def _check_archive(path: Path) -> None:
    """Check the sizes and check sums of a zip archive, which torch.save writes; torch.load does not look at them."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return  # not a zip archive: an older torch wrote the file
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        if len(names) < len(records) or sum(record.file_size for record in records) > path.stat().st_size:
            raise UserError(
                f"{path} is not a checkpoint: an archive of torch.save is not compressed, and names no file twice"
            )
        for record in records:
            if record.CRC:  # 0: it was saved without check sums
                with archive.open(record) as content:
                    while content.read(_CHUNK):
                        pass


__all__ = ["LEFT_OUT", "WRAPPERS", "load_state_dict"]
