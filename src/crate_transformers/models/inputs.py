"""Opening what prepares the inputs of a model: its image processor, its tokenizer."""

import math
from pathlib import Path
from typing import Any

from huggingface_hub import file_exists
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerBase

from ..errors import UserError
from ..upstream import PILImageResampling
from .opening import told_as_users
from .places import locate
from .stored import read_json

_PROCESSOR = "preprocessor_config.json"
_LARGEST = 1 << 14  # pixels, a side
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def has_processor(source: str | Path) -> bool:
    """Whether an image processor lies beside a model."""
    place = locate(source)
    return (place / _PROCESSOR).is_file() if isinstance(place, Path) else file_exists(place, _PROCESSOR)


def open_processor(source: str | Path, channels: int) -> Any:
    """The image processor of a folder or hub name.

    Args:
        channels: of the model's images.

    Raises:
        UserError: none there, or one that is damaged or of other images.
    """
    place = locate(source)
    if not has_processor(source):
        raise UserError(f"{source} has no image processor ({_PROCESSOR})")
    if isinstance(place, Path):
        read_json(place / _PROCESSOR)
    with told_as_users("image processor", source, (Exception,)):  # whatever its class makes of wrong values
        processor = AutoImageProcessor.from_pretrained(place, trust_remote_code=False)
    name = _wrong_field(processor, channels)
    if name is not None:
        value = getattr(processor, name)
        raise UserError(f"{_PROCESSOR} of {source} does not fit images of {channels} channels: {name} is {value!r}")
    return processor


def _wrong_field(processor: Any, channels: int) -> str | None:
    """The first field of an image processor with which no picture could be processed."""
    flags = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
    wrong = [name for name in flags if getattr(processor, name, None) not in (None, True, False)]
    if getattr(processor, "do_normalize", None):
        wrong += [name for name in ("image_mean", "image_std") if not _fits(getattr(processor, name), channels)]
        if not wrong and not all(value > 0 for value in processor.image_std):
            wrong.append("image_std")
    if getattr(processor, "do_rescale", None) and not (
        _is_number(processor.rescale_factor) and processor.rescale_factor > 0
    ):
        wrong.append("rescale_factor")
    if getattr(processor, "do_resize", None) and processor.resample not in list(PILImageResampling):
        wrong.append("resample")
    for flag, name in (("do_resize", "size"), ("do_center_crop", "crop_size")):
        if getattr(processor, flag, None) and not _is_size(getattr(processor, name)):
            wrong.append(name)
    return wrong[0] if wrong else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fits(values: Any, channels: int) -> bool:
    """One number, or one a channel."""
    return isinstance(values, list | tuple) and len(values) in (1, channels) and all(map(_is_number, values))


def _is_size(size: Any) -> bool:
    """Sides of a picture, by name, in pixels."""
    sides = [side for side in dict(size or {}).values() if side is not None]
    return bool(sides) and all(isinstance(side, int) and _is_number(side) and 1 <= side <= _LARGEST for side in sides)


def open_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name.

    Raises:
        UserError: none there, or one that is damaged.
    """
    place = locate(source, "tokenizer")
    if isinstance(place, Path):
        files = [place / name for name in _TOKENIZER if (place / name).is_file()]
        if not files:
            raise UserError(f"no usable tokenizer at {source}: it has none of its files ({_TOKENIZER[0]})")
        for file in [*files, place / "config.json"]:
            if file.suffix == ".json" and file.is_file():
                read_json(file)
    with told_as_users("tokenizer", source, (Exception,)):  # the tokenizers library raises bare exceptions
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        if not _is_number(tokenizer.model_max_length):
            raise UserError(f"model_max_length in {_TOKENIZER[1]} must be a number, got {tokenizer.model_max_length!r}")
    return tokenizer


__all__ = ["has_processor", "open_processor", "open_tokenizer"]
