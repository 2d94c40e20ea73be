"""The features of a model on a data set, as one .npz, written while they are made: `crate features`.

    header       JSON about the file: json.loads(str(file["header"]))
    pooled_L     (n, d)      of layer L, a number from 0, or "embedding", the input of layer 0
    tokens_L     (n, N, d)   all tokens; of images the class token (`prefix_tokens` of the header) and the patches
    codes_L      (n, N, m)   the sparse code; a baseline's MLP activations
    labels       (n,)        of labelled images
    names        (n,)        files, or places in the source
    index        (n,)        places in the part of the source
    input_ids, is_token      (n, T) of text; stretches shorter than T are filled up with zeros, is_token is False there

The last layer is read after the model's final norm, where it has one, as in probes.

Shapes: n samples, N tokens of a sample, T of text, d width, m entries of a code.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .. import __version__
from ..analysis.architectures import backbone_of
from ..analysis.attention import num_layers_of, resolve_layer
from ..analysis.tracing import Trace, trace_batches
from ..data import EvaluationTransform, LabelledImages, find_images, load_image, load_image_source
from ..errors import UserError
from ..files import user_path
from ..models.inputs import has_processor
from ..recipes.tasks.images import ImageData
from ..report.npz import NpzStream
from .evaluate import data_options
from .inputs import text_inputs
from .opening import processor_of, tokenizer_of
from .probes import EMBEDDING, default_pool
from .progress import Progress, unchanged
from .run_folder import recipe_beside

WHAT = ("pooled", "tokens", "codes")
IMAGE_POOLS, TEXT_POOLS = ("cls", "mean"), ("mean", "first", "last")
_FINAL_NORMS = ("norm", "layernorm", "final_norm", "ln_f")


@dataclass(frozen=True)
class FeatureRequest:
    """Which features of what.

    Attributes:
        folder: where the model is from; a recipe.yaml there gives the data, split as in the training.
        source: as `crate train` takes it, or the path of an image or a folder of images. settings: as in
            `evaluate_model`. split: "train", "validation" or "test".
        text: a file, or words, for a model that reads text. length: tokens of a stretch of it, at most.
        layers: from 0, negative from the end, "embedding", or "all" for the embedding and every layer.
        what: of WHAT. pool: of images "cls" or "mean" (of the patches), None is `default_pool`; of text "mean", "first"
            or "last", None is "mean".
        limit: samples at most; of images evenly spread.
        half: whether to store float16 instead of float32.

    Raises:
        UserError: a choice that is not known, or numbers below 1.
    """

    folder: str | Path
    source: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    text: str | None = None
    length: int = 128
    layers: tuple[int | str, ...] = (-1,)
    what: tuple[str, ...] = ("pooled",)
    pool: str | None = None
    limit: int | None = None
    batch_size: int = 64
    half: bool = False

    def __post_init__(self) -> None:
        unknown = [what for what in self.what if what not in WHAT]
        if unknown or not self.what:
            raise UserError(f"--what must be some of {', '.join(WHAT)}, got {', '.join(unknown) or 'none'}")
        if self.split not in ("train", "validation", "test"):
            raise UserError(f"--split must be train, validation or test, got {self.split!r}")
        for option, value in (("--limit", self.limit), ("--batch-size", self.batch_size), ("--length", self.length)):
            if value is not None and value < 1:
                raise UserError(f"{option} must be at least 1, got {value}")


@dataclass(frozen=True, eq=False)
class _Samples:
    """What the model is run on: batches of its inputs, and what is stored of the samples beside the features."""

    name: str
    count: int
    batches: Iterator[dict[str, Tensor]]
    beside: Callable[[NpzStream, int, int], None]  # of the samples from one place to another
    about: dict[str, Any]
    length: int | None = None  # of text, tokens


def write_features(
    model: PreTrainedModel,
    output: Path,
    request: FeatureRequest,
    *,
    progress: Progress = unchanged,
    on_note: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write the features of a model; memory does not grow with the number of samples.

    Args:
        output: a file whose name ends in .npz. While it is written, a hidden folder beside it holds as many bytes.
        progress: passes batches on, and may show how many of them are done. on_note: receives lines for the user.

    Returns:
        the header of the file: model, data, split, count, arrays (by name: layer, what, shape), ...

    Raises:
        UserError: data, layers or choices that do not fit the model; too little room on the disk.
    """
    if output.suffix != ".npz":
        raise UserError(f"--output must end in .npz, got {output}")
    reads_images = model.main_input_name == "pixel_values"
    layers = _resolved(model, request.layers)
    if "codes" in request.what and layers == [EMBEDDING]:
        raise UserError("the embedding has no code: name a layer")
    samples = (_images if reads_images else _texts)(model, request, on_note)
    pool = _pool(model, request.pool, reads_images)
    records = tuple(dict.fromkeys("codes" if what == "codes" else "tokens" for what in request.what))
    done = 0
    about: dict[str, Any] = {}
    batches = progress(samples.batches, -(-samples.count // request.batch_size), "features")
    with NpzStream(output) as stream:
        for trace in trace_batches(model, batches, records, batch_size=request.batch_size):
            arrays = dict(_arrays(model, trace, layers, request.what, pool))
            if done == 0:
                about = {"prefix_tokens": trace.prefix, "grid": trace.grid} if reads_images else {}
                _check_room(output, arrays, samples, len(trace), request.half)
            for name, values in arrays.items():
                stream.add(name, _stored(values, samples.length, request.half, name))
            samples.beside(stream, done, done + len(trace))
            done += len(trace)
        header = _header(model, request, samples, pool, stream.shapes()) | about | samples.about
        stream.put("header", np.asarray(json.dumps(header)))
    return header


def _resolved(model: PreTrainedModel, layers: Sequence[int | str]) -> list[int | str]:
    depth = num_layers_of(model)
    found: list[int | str] = []
    for layer in layers:
        if layer == "all":
            found += [EMBEDDING, *range(depth)]
        elif isinstance(layer, str) and layer != EMBEDDING:
            raise UserError(f"--layer takes numbers from 0 (negative: from the end), {EMBEDDING} or all, got {layer!r}")
        else:
            found.append(layer if isinstance(layer, str) else resolve_layer(layer, depth))
    return list(dict.fromkeys(found))


def _pool(model: PreTrainedModel, pool: str | None, reads_images: bool) -> str:
    known = IMAGE_POOLS if reads_images else TEXT_POOLS
    pool = pool or (default_pool(model) if reads_images else "mean")
    if pool not in known:
        raise UserError(f"--pool must be {', '.join(known)}, got {pool!r}")
    return pool


def _arrays(
    model: PreTrainedModel, trace: Trace, layers: Sequence[int | str], what: Sequence[str], pool: str
) -> Iterator[tuple[str, Tensor]]:
    """(name, values (B, ...)) of what is asked for of a batch."""
    last = len(trace.layers) - 1
    for layer in layers:
        if layer == EMBEDDING:
            tokens = trace.layers[0].tokens_in
        else:
            tokens = trace.layers[int(layer)].tokens_out
            if tokens is not None and layer == last:
                tokens = _final_norm(model, trace)(tokens)
        if "pooled" in what and tokens is not None:
            yield f"pooled_{layer}", _pooled(tokens, trace, pool)
        if "tokens" in what and tokens is not None:
            yield f"tokens_{layer}", tokens
        if "codes" in what and layer != EMBEDDING:
            codes = trace.layers[int(layer)].codes
            if codes is None:
                raise UserError(f"layer {layer} makes no code: its sparsification is none")
            yield f"codes_{layer}", codes


def _final_norm(model: PreTrainedModel, trace: Trace) -> nn.Module:
    """The norm after the last layer of a backbone; the identity where there is none, or it is of what comes later."""
    found = (getattr(backbone_of(model), name, None) for name in _FINAL_NORMS)
    is_of_tokens = trace.grid is None or trace.prefix > 0
    return (
        next((norm for norm in found if isinstance(norm, nn.Module)), nn.Identity()) if is_of_tokens else nn.Identity()
    )


@torch.no_grad()
def _pooled(tokens: Tensor, trace: Trace, pool: str) -> Tensor:
    """(B, d) of tokens (B, N, d)."""
    if trace.grid is not None:
        if pool == "cls" and trace.prefix == 0:
            raise UserError("this model's class token comes after its layers: pass --pool mean, over the patches")
        return tokens[:, 0] if pool == "cls" else tokens[:, trace.prefix :].mean(dim=1)
    return {"mean": tokens.mean(dim=1), "first": tokens[:, 0], "last": tokens[:, -1]}[pool]


def _stored(values: Tensor, length: int | None, half: bool, name: str) -> np.ndarray:
    """Values as they are written: on the CPU, float32 or float16; tokens of a shorter stretch of text filled up."""
    values = values.detach().float().cpu()
    if length is not None and values.ndim == 3 and values.shape[1] < length:
        values = torch.cat([values, values.new_zeros(len(values), length - values.shape[1], values.shape[2])], dim=1)
    if not half:
        return values.numpy()
    stored = values.half()
    if (stored.isinf() & ~values.isinf()).any():
        raise UserError(f"{name} has values beyond float16 ({values.abs().max():.3g}): leave --float16 out")
    return stored.numpy()


def _check_room(output: Path, arrays: Mapping[str, Tensor], samples: _Samples, batch: int, half: bool) -> None:
    """Refuse a file that will not fit on its disk, before it is written."""
    size = sum(values.numel() // batch * (2 if half else 4) for values in arrays.values()) * samples.count
    free = shutil.disk_usage(output.parent).free
    if 2 * size > free:  # the rows of the arrays, and the file that they become
        raise UserError(
            f"{output} would take {size / 1e9:.1f} GB, and as many while it is written; {free / 1e9:.1f} GB are free: "
            "ask for fewer layers, --what pooled, --limit or --float16"
        )


def _header(
    model: PreTrainedModel,
    request: FeatureRequest,
    samples: _Samples,
    pool: str,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    arrays = {}
    for name, shape in shapes.items():
        what, _, layer = name.partition("_")
        if what in WHAT:
            known = {"what": what, "layer": layer if layer == EMBEDDING else int(layer), "shape": list(shape)}
            arrays[name] = {**known, "dtype": "float16" if request.half else "float32"}
    return {
        "format": "crate_transformers features, 1",
        "version": __version__,
        "model": str(request.folder),
        "class": type(model).__name__,
        "data": samples.name,
        "count": samples.count,
        "pool": pool if "pooled" in request.what else None,
        "last_layer": "after the model's final norm, where it has one",
        "arrays": arrays,
    }


def _images(model: PreTrainedModel, request: FeatureRequest, on_note: Callable[[str], None]) -> _Samples:
    """The pictures of a source, of a run's data, or of files."""
    if request.text is not None:
        raise UserError("this model reads images: pass --data, not --text")
    source = request.source
    labels: np.ndarray | None = None
    about: dict[str, Any] = {"split": None, "classes": None}
    if source is not None and user_path(source).exists():
        paths = find_images([user_path(source)])
        images = LabelledImages(lambda i, c: load_image(paths[i], c), np.zeros(len(paths)), lambda i: str(paths[i]))
        name = source
    else:
        recipe = recipe_beside(request.folder)
        data = data_options(ImageData, recipe, source, request.settings)
        fractions = data.validation_fraction, data.test_fraction
        seed = recipe.seed if recipe is not None else 0
        splits = load_image_source(data.source, data.root, *fractions, seed, data.skip_unreadable, data.manifest_dir)
        images, name = getattr(splits, request.split), splits.name
        for note in (*splits.notes, *(f"{path} is left out: it cannot be read" for path in splits.left_out)):
            on_note(note)
        if not len(images):
            raise UserError(f"{name} has no {request.split} images")
        labels = images.labels
        about = {"split": request.split, "classes": splits.classes, "left_out": list(splits.left_out)}
    count = min(len(images), request.limit or len(images))
    chosen = np.unique(np.linspace(0, len(images) - 1, count).astype(int))
    if not has_processor(request.folder):
        on_note(f"{request.folder} has no image processor beside it: pictures are prepared as ImageNet's are")
    processor: Any = processor_of(model, request.folder)
    transform = EvaluationTransform(processor)
    channels = getattr(model.config, "num_channels", 3)

    def batches() -> Iterator[dict[str, Tensor]]:
        """Pictures, read when they are asked for."""
        for start in range(0, len(chosen), request.batch_size):
            pictures = [images.read(int(i), channels) for i in chosen[start : start + request.batch_size]]
            yield {"pixel_values": torch.stack([transform(picture) for picture in pictures])}

    def beside(stream: NpzStream, start: int, end: int) -> None:
        """Names, places and labels of some samples."""
        own = chosen[start:end]
        stream.add("index", own.astype(np.int64))
        stream.add_texts("names", [images.name(int(i)) for i in own])
        if labels is not None:
            stream.add("labels", labels[own].astype(np.int64))

    return _Samples(name, len(chosen), batches(), beside, about)


def _texts(model: PreTrainedModel, request: FeatureRequest, on_note: Callable[[str], None]) -> _Samples:
    """The stretches of a text."""
    text = request.text
    if text is None and request.source is not None and request.source.startswith("text:"):
        text = request.source.removeprefix("text:")
    if text is None or (request.text is not None and request.source is not None):
        raise UserError("this model reads text: pass --text FILE (or words), or --data text:FILE, and no other --data")
    if request.settings:
        raise UserError(f"--set {next(iter(request.settings))} is of images: a text is read as it is")
    tokenizer = tokenizer_of(request.folder)
    inputs = text_inputs(model, tokenizer, text, request.limit, request.length, request.batch_size)
    stretches = [batch["input_ids"] for batch in inputs.batches if isinstance(batch, Mapping)]
    length = max(batch.shape[1] for batch in stretches)
    ids = np.zeros((sum(map(len, stretches)), length), dtype=np.int64)
    real = np.zeros(ids.shape, dtype=bool)
    place = 0
    for batch in stretches:
        ids[place : place + len(batch), : batch.shape[1]] = batch.numpy()
        real[place : place + len(batch), : batch.shape[1]] = True
        place += len(batch)

    def beside(stream: NpzStream, start: int, end: int) -> None:
        """Tokens and places of some stretches."""
        stream.add("index", np.arange(start, end, dtype=np.int64))
        stream.add_texts("names", [f"{inputs.name}, tokens {i * length} on" for i in range(start, end)])
        stream.add("input_ids", ids[start:end])
        stream.add("is_token", real[start:end])

    batches = iter([{"input_ids": batch} for batch in stretches])
    return _Samples(inputs.name, len(ids), batches, beside, {"split": None, "length": length}, length)


__all__ = ["WHAT", "FeatureRequest", "write_features"]
