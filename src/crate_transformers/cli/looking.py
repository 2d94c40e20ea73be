"""What the commands that look inside a model share: opening it, and its inputs as a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ..files import user_path

Heads = Annotated[int | None, typer.Option(min=1, help="Number of heads of a checkpoint file, which does not hold it.")]


def open_model(source: str, heads: int | None = None, option: str = "--heads") -> Any:
    """A model of a folder or hub name, with the head that it was saved with; or of a public checkpoint file.

    Args:
        heads: how many heads a checkpoint file has, which it does not hold; the configuration of a folder does.
        option: what the user calls `heads`.

    Raises:
        ValueError: nothing there, nothing that can be read, or `heads` of a folder.
    """
    from ..models import opening
    from ..models.places import CHECKPOINTS, locate

    place = locate(source)
    if isinstance(place, Path) and place.is_file():
        if place.suffix not in CHECKPOINTS:
            raise UserError(f"{source} is not a model: expected a folder, a hub name or a checkpoint file")
        from ..interop.convert import convert

        conversion = convert(place, heads)
        for note in conversion.notes:
            typer.echo(note, err=True)
        return on_device(conversion.model)
    if heads is not None:
        raise UserError(f"{option} is of a checkpoint file: the number of heads of {source} is in its config.json")
    return on_device(opening.open_model(source))


def on_device(model: Any) -> Any:
    """On a GPU where there is one."""
    import torch

    return model.to("cuda") if torch.cuda.is_available() else model


@dataclass
class Inputs:
    """Inputs of a model as a stream of batches.

    Attributes:
        batches: dictionaries of tensors. name: what to call the data. count: how many samples, where it is known.
        normalisation: (mean, standard deviation) of images.
    """

    batches: Any
    name: str
    count: int | None = None
    normalisation: tuple[list[float], list[float]] | None = None


class _Images:
    """Pictures, read and processed when asked for, batch by batch; may be gone through again."""

    def __init__(self, read: Any, count: int, processor: Any, batch_size: int):
        self.read, self.count, self.processor, self.batch_size = read, count, processor, batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, self.count, self.batch_size):
            pictures = [self.read(i) for i in range(start, min(start + self.batch_size, self.count))]
            yield {"pixel_values": self.processor(pictures, return_tensors="pt")["pixel_values"]}


def processor_of(model: Any, source: str) -> Any:
    """The image processor saved beside a model, or the one that the configuration asks for."""
    from ..models.image_processing import image_processor_of
    from ..models.inputs import has_processor, open_processor

    return (
        open_processor(source, model.config.num_channels) if has_processor(source) else image_processor_of(model.config)
    )


def image_inputs(
    model: Any, source: str, data: str, split: str = "test", limit: int | None = None, batch_size: int = 16
) -> Inputs:
    """Images of a data source, of files and folders, or tensors of a file, as a stream of model-sized batches.

    Args:
        source: where the model is from (its image processor lies there).
        data: "digits", "imagefolder:PATH", "torchvision:NAME", "hub:NAME"; PATH of an image or a folder of images;
            "tensors:FILE.safetensors" with model inputs by name.
        split: of a data source: "train", "validation" or "test".
        limit: at most so many images.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, got {limit}")
    if data.startswith("tensors:"):
        return tensor_inputs(data.removeprefix("tensors:"), limit)
    from ..data import find_images, load_image, load_image_source

    channels = getattr(model.config, "num_channels", 3)
    if user_path(data).exists():
        paths = find_images([user_path(data)])
        name, count = Path(data).name, len(paths)

        def read(i: int) -> Any:
            return load_image(paths[i], channels)
    else:
        splits = load_image_source(data)
        if split not in ("train", "validation", "test"):
            raise UserError(f"--split must be train, validation or test, got {split!r}")
        part = getattr(splits, split)
        name, count = f"{data.split(':')[0]} {Path(splits.name).name} ({split})", len(part)
        name = f"{splits.name} ({split})" if data == splits.name else name
        if count == 0:
            raise UserError(f"{data} has no {split} images: choose another --split")

        def read(i: int) -> Any:
            return part.read(i, channels)

    count = count if limit is None else min(limit, count)
    processor = processor_of(model, source)
    normalisation = (list(processor.image_mean), list(processor.image_std)) if processor.do_normalize else None
    return Inputs(_Images(read, count, processor, batch_size), name, count, normalisation)


def tensor_inputs(file: str, limit: int | None = None) -> Inputs:
    """Exact inputs: the tensors of a safetensors file that are named like a model's inputs."""
    from safetensors import safe_open

    if not Path(file).is_file():
        raise UserError(f"no file at {file}")
    names = ("pixel_values", "input_ids", "attention_mask", "token_type_ids", "noise")
    with safe_open(file, framework="pt") as content:
        found = {name: content.get_tensor(name)[:limit] for name in content.keys() if name in names}  # noqa: SIM118
    if not found:
        raise UserError(f"{file} holds no tensor named like an input of a model ({', '.join(names)})")
    return Inputs(found, Path(file).name, len(next(iter(found.values()))))


def read_text(text: str) -> tuple[str, str]:
    """(what to call it, text) of a file's name, or of the words themselves.

    Raises:
        ValueError: nothing in it.
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


def tokenizer_of(source: str) -> Any:
    """The tokenizer saved beside a model: in its folder, or in that of its checkpoint file."""
    from ..models.inputs import open_tokenizer

    place = user_path(source)
    try:
        return open_tokenizer(place.absolute().parent if place.is_file() else source)
    except UserError as error:
        raise UserError(f"{source} has no tokenizer, which text needs: save one beside the model ({error})") from error


class _Tokens:
    """Token ids in stretches of equal length; may be gone through again."""

    def __init__(self, ids: Any, length: int, batch_size: int):
        self.stretches = [ids[start : start + length] for start in range(0, len(ids), length)]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return len(self.stretches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        import torch

        whole = self.stretches if len(self.stretches) == 1 else self.stretches[:-1]
        for start in range(0, len(whole), self.batch_size):
            yield {"input_ids": torch.tensor(whole[start : start + self.batch_size])}
        if len(self.stretches) > 1:
            yield {"input_ids": torch.tensor([self.stretches[-1]])}


def text_inputs(
    model: Any, tokenizer: Any, text: str, limit: int | None = None, length: int = 128, batch_size: int = 16
) -> Inputs:
    """Text cut into stretches of at most `length` tokens (a model's context where that is shorter)."""
    from ..data.reading import as_text

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


def with_progress(batches: Any, count: int | None, what: str) -> Iterator[Any]:
    """Batches as they are, with a progress bar on the terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=count)
        for batch in [batches] if isinstance(batches, dict) else batches:
            yield batch
            progress.advance(task, len(next(iter(batch.values()))))


def one_by_one(items: Any, count: int, what: str) -> Iterator[Any]:
    """Items as they are, with a progress bar on the terminal."""
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=count, console=Console(stderr=True), transient=True)


def output_folder(output: Path) -> Path:
    """The folder to write, made where it is missing.

    Raises:
        ValueError: there is a file of that name.
    """
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file: name a folder")
    output.mkdir(parents=True, exist_ok=True)
    return output


__all__ = [
    "Heads",
    "Inputs",
    "image_inputs",
    "on_device",
    "one_by_one",
    "open_model",
    "output_folder",
    "processor_of",
    "read_text",
    "tensor_inputs",
    "text_inputs",
    "tokenizer_of",
    "with_progress",
]
