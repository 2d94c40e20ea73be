"""The one way to open a model for every door, and what lies beside it: its image processor, its tokenizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import UserError
from ..files import user_path
from ..interop.convert import convert
from ..models import opening
from ..models.image_processing import image_processor_of
from ..models.inputs import has_processor, open_processor, open_tokenizer
from ..models.places import CHECKPOINTS, locate


def open_model(
    source: str | Path,
    heads: int | None = None,
    *,
    kind: Any = None,
    option: str = "--heads",
    on_note: Callable[[str], None] = lambda line: None,
) -> PreTrainedModel:
    """A whole model of a folder or hub name, or of a public checkpoint file; in evaluation mode, on the best device.

    Args:
        heads: how many heads a checkpoint file has, which it does not hold; the configuration of a folder does.
        kind: a model class, or one of transformers' Auto classes; None is the class that the model was saved with. A
            checkpoint file names no class: where a kind is asked for, the user is told to convert it first.
        option: what the user calls `heads`.
        on_note: receives a line for everything that was assumed of a checkpoint file.

    Raises:
        UserError: nothing there, nothing that can be read, or `heads` of a folder.
    """
    place = locate(source)
    if isinstance(place, Path) and place.is_file() and kind is None:
        if place.suffix not in CHECKPOINTS:
            raise UserError(f"{source} is not a model: expected a folder, a hub name or a checkpoint file")
        conversion = convert(place, heads)
        for note in conversion.notes:
            on_note(note)
        return _on_device(conversion.model)
    if heads is not None:
        raise UserError(f"{option} is of a checkpoint file: the number of heads of {source} is in its config.json")
    return _on_device(opening.open_model(source, kind))


def _on_device(model: PreTrainedModel) -> PreTrainedModel:
    """On a GPU where there is one."""
    return model.to("cuda") if torch.cuda.is_available() else model  # type: ignore[arg-type]


def processor_of(model: PreTrainedModel, source: str | Path) -> Any:
    """The image processor saved beside a model, or the one that the configuration asks for."""
    return (
        open_processor(source, model.config.num_channels) if has_processor(source) else image_processor_of(model.config)
    )


def tokenizer_of(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved beside a model: in its folder, or in that of its checkpoint file."""
    place = user_path(source)
    try:
        return open_tokenizer(place.absolute().parent if place.is_file() else source)
    except UserError as error:
        raise UserError(f"{source} has no tokenizer, which text needs: save one beside the model ({error})") from error


__all__ = ["open_model", "processor_of", "tokenizer_of"]
