"""Where a model, a tokenizer or an image processor lies: on this machine, or on the Hugging Face hub.

The hub is asked only for what may be a name there, once, for PATIENCE seconds at most and without the retries of a
download: transformers alone asks six times for each of several files, which takes minutes where there is no network.
"""

from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from ..errors import UserError

CHECKPOINTS = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".npz")
PATIENCE = 5.0  # seconds, for a connection and for an answer
_KEPT = ("config.json", "tokenizer_config.json", "tokenizer.json", "preprocessor_config.json")


def locate(source: str | Path, what: str = "model") -> Path | str:
    """A path on this machine where there is one of that name; else a name that the hub has.

    Args:
        source: as the user gave it. A Path, and what begins with ./, ../, ~ or /, has more than one slash or a
            backslash, ends with a slash or as a checkpoint does, or lies in a folder that exists, can only be meant to
            be on this machine.
        what: how messages call it.

    Returns:
        a Path that exists, of the hub's cache where the hub cannot be reached; or the hub's name, as a string.

    Raises:
        UserError: nothing there.
    """
    name = str(source)
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~nobody
        path = Path(name)
    if name and path.exists():
        return path
    if isinstance(source, Path) or not _may_be_on_hub(name):
        raise UserError(f"no usable {what} at {name or repr(name)}: there is no {what}, no such file or folder")
    return _on_hub(name, what)


def _may_be_on_hub(name: str) -> bool:
    try:
        validate_repo_id(name)  # owner/name, or a name alone, of letters, digits, and - _ . inside
    except HFValidationError:
        return False
    owner, slash, _ = name.rpartition("/")
    return not name.endswith(CHECKPOINTS) and not (slash and Path(owner).is_dir())


@cache
def _on_hub(name: str, what: str) -> Path | str:
    """The name where the hub has it, the folder of its cache where the hub cannot be asked."""
    reason = "and the hub is not asked (HF_HUB_OFFLINE)"
    if not is_offline_mode():
        try:
            HfApi().model_info(name, timeout=PATIENCE)
            return name
        except RepositoryNotFoundError as error:
            raise UserError(
                f"no usable {what} at {name}: there is no such folder, and the hub shows no model of that name"
            ) from error
        except HfHubHTTPError:
            return name  # it answers, if not to this question: let the download tell
        except Exception as error:  # of the network library that this version of the hub's stands on
            reason = f"and the hub cannot be reached ({str(error) or type(error).__name__})"
    for file in _KEPT:
        kept = try_to_load_from_cache(name, file)
        if isinstance(kept, str):
            return Path(kept).parent
    raise UserError(f"no usable {what} at {name}: there is no such folder, {reason}")


__all__ = ["CHECKPOINTS", "PATIENCE", "locate"]
