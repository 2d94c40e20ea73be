"""The models that are looked at, and what they are shown: pictures, or text.

open_subjects("runs/digits", baseline=None) -> Subjects(model, other, pictures or texts)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import demo
from ..analysis.architectures import architecture_of, backbone_of
from ..data.images.modes import to_channels
from ..errors import UserError
from ..evaluation.inputs import picture_source, read_text
from ..evaluation.opening import ImageProcessor, on_device, open_model, processor_of, tokenizer_of
from ..evaluation.run_folder import CHECKPOINTS, checkpoints_in

MAX_PICTURES = 200
UNTRAINED = "untrained"


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is looked at.

    Attributes:
        name: what the page calls it. opening: lines of Python that open it, and its processor or tokenizer, again.
        processor: of a model that reads images. tokenizer: of a model that reads text.
    """

    name: str
    opening: tuple[str, ...]
    model: PreTrainedModel
    processor: ImageProcessor | None = None
    tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def reads_images(self) -> bool:
        """Whether it reads images (else text)."""
        return self.model.main_input_name == "pixel_values"

    def pixels(self, picture: Image.Image) -> Tensor:
        """(1, C, H, W) as the model reads them."""
        assert self.processor is not None
        picture = to_channels(picture, self.model.config.num_channels)
        return self.processor(picture, return_tensors="pt")["pixel_values"]

    def ids(self, text: str) -> Tensor:
        """(1, T) token ids.

        Raises:
            UserError: there is no token, or there are more than the context holds.
        """
        assert self.tokenizer is not None
        ids = self.tokenizer(text, return_tensors="pt", add_special_tokens=False, verbose=False)["input_ids"]
        ids = cast(Tensor, ids).long()
        config = self.model.config
        limit = getattr(config, "max_sequence_length", None) or getattr(config, "max_position_embeddings", None)
        if ids.shape[1] == 0:
            raise UserError("there is no text to look at: type some words")
        if limit is not None and ids.shape[1] > limit:
            raise UserError(f"the text has {ids.shape[1]:,} tokens, {self.name} holds {limit:,}: shorten it")
        return ids


@dataclass(eq=False)
class Subjects:
    """A model, one beside it (or none), and what both are shown.

    Attributes:
        others: the names of models that may stand beside the first: a baseline, the checkpoints of its run, the same
            model untrained.
        pictures: how many there are; read gives one. texts: for a model that reads text.
        on: what the pictures or texts are called. script: the lines of Python that open them.
    """

    model: Subject
    others: dict[str, Callable[[], Subject]]
    on: str
    num_pictures: int = 0
    read: Callable[[int], Image.Image] = field(default=lambda index: Image.new("L", (1, 1)))
    labels: Sequence[str] = ()
    texts: Sequence[str] = ()
    _open: dict[str, Subject] = field(default_factory=dict)

    def other(self, name: str) -> Subject:
        """A model that stands beside the first, opened when it is first asked for; the last three are kept.

        Raises:
            UserError: there is none of that name, or it cannot be opened.
        """
        if name not in self.others:
            raise UserError(f"there is no model {name!r} beside {self.model.name}: {', '.join(self.others) or 'none'}")
        if name not in self._open:
            if len(self._open) >= 3:
                del self._open[next(iter(self._open))]
            self._open[name] = self.others[name]()
        return self._open[name]


def open_subjects(
    model: str | None,
    baseline: str | None = None,
    data: str | None = None,
    text: str | None = None,
    heads: int | None = None,
    baseline_heads: int | None = None,
    on_note: Callable[[str], None] = lambda line: None,
) -> Subjects:
    """Open what is to be looked at.

    Args:
        model: a folder, hub name or checkpoint file; demo:NAME, or None for the demonstration.
        baseline: a second one of the same kind of inputs, or "untrained". data: pictures, as in `crate inspect`; None
            takes those of the demonstration, whatever their size. text: a file, or words.
        heads, baseline_heads, on_note: as in `open_model`.

    Raises:
        UserError: a model or data that cannot be opened, or that do not fit each other.
    """
    model = model or "demo:fashion"
    if baseline is None and model == "demo:fashion":
        baseline = "demo:fashion-vit"
    subject = open_subject(model, heads, "--heads", on_note)
    others: dict[str, Callable[[], Subject]] = {}
    if baseline is not None and baseline != UNTRAINED:
        second = open_subject(baseline, baseline_heads, "--baseline-heads", on_note)
        if second.reads_images != subject.reads_images:
            reads = "images" if subject.reads_images else "text"
            raise UserError(f"{subject.name} reads {reads}, {second.name} does not: no baseline of it")
        others[second.name] = lambda: second
    others[UNTRAINED] = lambda: _untrained(subject)
    for folder in _checkpoints(model):
        others[folder.name] = partial(_checkpoint_of, subject, folder)
    if subject.reads_images:
        if text is not None:
            raise UserError(f"{subject.name} reads images: pass --data, not --text")
        return _with_pictures(subject, others, model, data)
    if data is not None:
        raise UserError(f"{subject.name} reads text: pass --text, not --data")
    return _with_texts(subject, others, text)


def open_subject(source: str, heads: int | None, option: str, on_note: Callable[[str], None]) -> Subject:
    """A model, with what prepares its inputs.

    Raises:
        UserError: it cannot be opened, or one cannot look inside it.
    """
    if source.startswith("demo:"):
        found = demo.load(source.removeprefix("demo:"))
        beside = "processor" if found.processor is not None else "tokenizer"
        opening = (
            "from crate_transformers import demo",
            f"demonstration = demo.load({found.name!r})",
            f"model, {beside} = demonstration.model, demonstration.{beside}",
        )
        return Subject(source, opening, _ready(on_device(found.model)), found.processor, found.tokenizer)
    model = open_model(source, heads, option=option, on_note=on_note)
    architecture_of(backbone_of(model))  # a model that is none of ours is told now
    name = Path(source).name or source
    given = "" if heads is None else f", heads={heads}"
    if model.main_input_name == "pixel_values":
        opening = (
            "from crate_transformers.evaluation.opening import open_model, processor_of",
            f"model = open_model({source!r}{given})",
            f"processor = processor_of(model, {source!r})",
        )
        return Subject(name, opening, _ready(model), processor_of(model, source))
    opening = (
        "from crate_transformers.evaluation.opening import open_model, tokenizer_of",
        f"model = open_model({source!r}{given})",
        f"tokenizer = tokenizer_of({source!r})",
    )
    return Subject(name, opening, _ready(model), None, tokenizer_of(source))


def _ready(model: PreTrainedModel) -> PreTrainedModel:
    """The model in the one attention that gives its weights, so that no call switches."""
    model.set_attn_implementation("eager")
    return model.eval()


def _checkpoints(model: str) -> list[Path]:
    folder = Path(model).expanduser() / CHECKPOINTS
    return checkpoints_in(folder) if folder.is_dir() else []


def _checkpoint_of(subject: Subject, folder: Path) -> Subject:
    model = _ready(open_model(folder, kind=type(subject.model)))
    opening = (*subject.opening, f"model = open_model({str(folder)!r}, kind=type(model))")
    return Subject(folder.name, opening, model, subject.processor, subject.tokenizer)


def _untrained(subject: Subject) -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = type(subject.model)(subject.model.config)
    model = _ready(nn.Module.to(model, subject.model.device))
    opening = (*subject.opening, "torch.manual_seed(0)", "model = type(model)(model.config).eval()  # untrained")
    return Subject(UNTRAINED, opening, model, subject.processor, subject.tokenizer)


def _with_pictures(
    subject: Subject, others: dict[str, Callable[[], Subject]], model: str, data: str | None
) -> Subjects:
    if data is not None:
        name, count, read_one = picture_source(data, "test", subject.model.config.num_channels)
        return Subjects(subject, others, name, min(count, MAX_PICTURES), read_one)
    name = model.removeprefix("demo:") if model.startswith("demo:") else "fashion"
    pictures = demo.pictures(name)
    images = pictures.images
    return Subjects(subject, others, pictures.name, len(images), images.__getitem__, pictures.labels)


def _with_texts(subject: Subject, others: dict[str, Callable[[], Subject]], text: str | None) -> Subjects:
    if text is None:
        return Subjects(subject, others, "sentences of the demonstration", texts=demo.texts())
    name, content = read_text(text)
    paragraphs = [" ".join(part.split()) for part in content.split("\n\n")]
    found = [part[:400] for part in paragraphs if len(part) > 20][:40] or [content[:400]]
    return Subjects(subject, others, name, texts=found)


def can_write(subject: Subject) -> bool:
    """Whether a model continues a text."""
    return bool(getattr(subject.model, "can_generate", lambda: False)()) and not subject.reads_images


def class_names(subject: Subject) -> list[str]:
    """The classes of a classifier of pictures, texts or tokens, in their order; [] of any other model."""
    config: Any = subject.model.config
    kinds = ("ForImageClassification", "ForSequenceClassification", "ForTokenClassification")
    if not type(subject.model).__name__.endswith(kinds):
        return []
    return [str(config.id2label.get(i, i)) for i in range(config.num_labels)]


__all__ = [
    "MAX_PICTURES",
    "UNTRAINED",
    "Subject",
    "Subjects",
    "can_write",
    "class_names",
    "open_subject",
    "open_subjects",
]
