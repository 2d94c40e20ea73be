"""How every command opens a model, its image processor and its tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import UserError
from ..files import user_path
from ..interop.convert import convert
from ..models import opening
from ..models.image_processing import published_processor_of
from ..models.inputs import has_processor, open_processor, open_tokenizer
from ..models.places import CHECKPOINTS, locate


class ImageProcessor(Protocol):
    """An image processor of transformers, of whatever class."""

    @property
    def do_normalize(self) -> bool | None:
        """Whether pictures are normalised by image_mean and image_std."""

    @property
    def image_mean(self) -> Sequence[float]:
        """The mean of each channel, or one for all."""

    @property
    def image_std(self) -> Sequence[float]:
        """The standard deviation of each channel, or one for all."""

    def __call__(
        self, images: Image.Image | list[Image.Image], *, return_tensors: str, **options: Any
    ) -> Mapping[str, Tensor]:
        """Pictures to {"pixel_values": (B, C, H, W)} for return_tensors="pt"."""
        ...


def open_model(
    source: str | Path,
    heads: int | None = None,
    *,
    kind: type | None = None,
    option: str = "--heads",
    in_single: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
) -> PreTrainedModel:
    """Open a whole model of a folder or hub name, or of a public checkpoint file.

    Args:
        heads: the number of heads of a checkpoint file, which does not hold it; the configuration of a folder does.
        kind: a model class, or one of transformers' Auto classes; None is the class that the model was saved with. A
            checkpoint file names no class: where a kind is asked for, the user is told to convert it first.
        option: the name of the command line's option for `heads`, for messages.
        in_single: bring weights of half precision to float32, for what is measured of them: they are the same
            numbers, and what is computed with them is exact to more digits. It is said.
        on_note: receives a line for everything that was assumed of a checkpoint file.

    Returns:
        the model in evaluation mode, on a GPU where there is one.

    Raises:
        UserError: there is no model, it cannot be read, or `heads` was given for a folder.
    """
    model = _open(source, heads, kind, option, on_note)
    is_quantized = getattr(model.config, "quantization_config", None) is not None
    if in_single and not is_quantized and model.dtype in (torch.float16, torch.bfloat16):
        on_note(f"the weights of {source} are {str(model.dtype).removeprefix('torch.')}, looked at in float32")
        nn.Module.float(model)
        model.config.dtype = model.dtype
    return on_device(model)


def _open(
    source: str | Path, heads: int | None, kind: type | None, option: str, on_note: Callable[[str], None]
) -> PreTrainedModel:
    place = locate(source)
    if isinstance(place, Path) and place.is_file() and kind is None:
        if place.suffix not in CHECKPOINTS:
            raise UserError(f"{source} is not a model: expected a folder, a hub name or a checkpoint file")
        conversion = convert(place, heads)
        for note in conversion.notes:
            on_note(note)
        return conversion.model
    if heads is not None:
        raise UserError(f"{option} is of a checkpoint file: the number of heads of {source} is in its config.json")
    return opening.open_model(source, kind)


def on_device(model: PreTrainedModel) -> PreTrainedModel:
    """Move a model to a GPU where there is one."""
    return nn.Module.to(model, "cuda") if torch.cuda.is_available() else model


def processor_of(model: PreTrainedModel, source: str | Path) -> ImageProcessor:
    """The image processor saved beside a model, or the one that the configuration asks for."""
    if has_processor(source):
        return open_processor(source, model.config.num_channels)
    return cast(ImageProcessor, published_processor_of(model.config))  # mypy cannot compare its TypedDict of keywords


def tokenizer_of(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved beside a model: in its folder, or in that of its checkpoint file.

    Raises:
        UserError: there is none.
    """
    place = user_path(source)
    try:
        return open_tokenizer(place.absolute().parent if place.is_file() else source)
    except UserError as error:
        raise UserError(f"{source} has no tokenizer, which text needs: save one beside the model ({error})") from error


__all__ = ["on_device", "open_model", "processor_of", "tokenizer_of"]
