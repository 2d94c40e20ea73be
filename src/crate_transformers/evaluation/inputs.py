"""The inputs of a model as a stream of batches: images, text, or the exact tensors of a file.

Shapes: B batch, C channels, H x W pixels, T tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import find_images, load_image, load_image_source
from ..data.text.reading import as_text
from ..errors import UserError
from ..files import user_path
from .opening import ImageProcessor, processor_of

_TENSORS = ("pixel_values", "input_ids", "attention_mask", "token_type_ids", "noise")


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model as a stream of batches.

    Attributes:
        batches: tensors by name: one batch, or an iterable of batches that may be read again.
        name: a short name of the data. count: number of samples, where it is known.
        normalisation: (mean, standard deviation) by which images were normalised; None where they were not.
        names: what to call each sample: its class, or its file; empty where it has no name.
        labels: the class of each sample; empty where it is not known.
    """

    batches: Mapping[str, Tensor] | Iterable[Mapping[str, Tensor]]
    name: str
    count: int | None = None
    normalisation: tuple[list[float], list[float]] | None = None
    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()


class _Images:
    """Pictures that are read and processed batch by batch, when a batch is asked for; they may be read again."""

    def __init__(self, read: Callable[[int], Image.Image], count: int, processor: ImageProcessor, batch_size: int):
        self.read, self.count, self.processor, self.batch_size = read, count, processor, batch_size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for start in range(0, self.count, self.batch_size):
            pictures = [self.read(i) for i in range(start, min(start + self.batch_size, self.count))]
            yield {"pixel_values": self.processor(pictures, return_tensors="pt")["pixel_values"]}  # (B, C, H, W)


def image_inputs(
    model: PreTrainedModel,
    source: str | Path,
    data: str,
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 16,
) -> Inputs:
    """Images of a data source, of files and folders, or tensors of a file, as a stream of model-sized batches.

    Args:
        source: the folder, file or hub name of the model, where its image processor lies.
        data: "digits", "imagefolder:PATH", "torchvision:NAME", "hub:NAME"; PATH of an image or a folder of images;
            "tensors:FILE.safetensors" with model inputs by name.
        split: the part of a data source: "train", "validation" or "test".
        limit: number of images, at most.

    Raises:
        UserError: there are no such data, the split is empty, or the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, got {limit}")
    if data.startswith("tensors:"):
        return tensor_inputs(data.removeprefix("tensors:"), limit)
    found = _pictures(data, split, getattr(model.config, "num_channels", 3))
    count = found.count if limit is None else min(limit, found.count)
    processor = processor_of(model, source)
    normalisation = (list(processor.image_mean), list(processor.image_std)) if processor.do_normalize else None
    images = _Images(found.read, count, processor, batch_size)
    return Inputs(images, found.name, count, normalisation, found.names[:count], found.labels[:count])


def picture_source(data: str, split: str, channels: int) -> tuple[str, int, Callable[[int], Image.Image]]:
    """(name, number of pictures, function from place to picture) of files, folders or a part of a data source."""
    found = _pictures(data, split, channels)
    return found.name, found.count, found.read


@dataclass(frozen=True)
class _Pictures:
    """Pictures by place; what to call the data, and each picture; the class of each, where it is known."""

    name: str
    count: int
    read: Callable[[int], Image.Image]
    names: tuple[str, ...]
    labels: tuple[int, ...] = ()


def _pictures(data: str, split: str, channels: int) -> _Pictures:
    if user_path(data).exists():
        paths = find_images([user_path(data)])
        names = tuple(path.name for path in paths)
        return _Pictures(Path(data).name, len(paths), lambda i: load_image(paths[i], channels), names)
    splits = load_image_source(data)
    if split not in ("train", "validation", "test"):
        raise UserError(f"--split must be train, validation or test, got {split!r}")
    part = getattr(splits, split)
    name = splits.name if data == splits.name else f"{data.split(':')[0]} {Path(splits.name).name}"
    if len(part) == 0:
        raise UserError(f"{data} has no {split} images: choose another --split")
    labels = tuple(part.labels.tolist())
    names = tuple(splits.classes[label] for label in labels)
    return _Pictures(f"{name} ({split})", len(part), lambda i: part.read(i, channels), names, labels)


def tensor_inputs(file: str, limit: int | None = None) -> Inputs:
    """The tensors of a safetensors file that are named like a model's inputs, as they are.

    Raises:
        UserError: there is no such file, or it holds none of these tensors.
    """
    if not Path(file).is_file():
        raise UserError(f"no file at {file}")
    with safe_open(file, framework="pt") as content:
        found = {name: content.get_tensor(name)[:limit] for name in content.keys() if name in _TENSORS}  # noqa: SIM118
    if not found:
        raise UserError(f"{file} holds no tensor named like an input of a model ({', '.join(_TENSORS)})")
    return Inputs(found, Path(file).name, len(next(iter(found.values()))))


def read_text(text: str) -> tuple[str, str]:
    """(name, text) of a file, or of the words themselves.

    Args:
        text: the name of a file, or words.

    Raises:
        ValueError: the text is empty.
    """
    try:
        is_file = user_path(text).is_file()
    except (OSError, UserError):  # too long for a file's name, or words that begin with ~
        is_file = False
    try:
        content = user_path(text).read_text(encoding="utf-8-sig") if is_file else text
    except UnicodeDecodeError as error:
        raise UserError(f"{text} is not UTF-8 (byte 0x{error.object[error.start]:02x}): convert it to UTF-8") from error
    if not content.strip():
        raise UserError("there is no text: --text takes a file or words")
    return (Path(text).name if is_file else "the given text"), content


class _Tokens:
    """Token ids in stretches of equal length, which may be read again. The last stretch may be shorter."""

    def __init__(self, ids: list[int], length: int, batch_size: int):
        self.stretches = [ids[start : start + length] for start in range(0, len(ids), length)]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.stretches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        whole = self.stretches if len(self.stretches) == 1 else self.stretches[:-1]
        for start in range(0, len(whole), self.batch_size):
            yield {"input_ids": torch.tensor(whole[start : start + self.batch_size])}
        if len(self.stretches) > 1:
            yield {"input_ids": torch.tensor([self.stretches[-1]])}


def text_inputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    limit: int | None = None,
    length: int = 128,
    batch_size: int = 16,
) -> Inputs:
    """A text, cut into stretches of at most `length` tokens, or of the model's context where that is shorter.

    Args:
        text: the name of a file, or words. limit: number of stretches, at most.

    Raises:
        UserError: there is no text, or the tokenizer makes no token of it.
    """
    name, content = read_text(text)
    config = model.config
    context = getattr(config, "max_sequence_length", None) or getattr(config, "max_position_embeddings", None)
    ids = as_text(tokenizer)(content, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise UserError("the tokenizer makes no token of the text")
    tokens = _Tokens(ids, min(length, context or length), batch_size)
    if limit is not None:
        tokens.stretches = tokens.stretches[:limit]
    return Inputs(tokens, name, len(tokens))


__all__ = ["Inputs", "image_inputs", "read_text", "tensor_inputs", "text_inputs"]
