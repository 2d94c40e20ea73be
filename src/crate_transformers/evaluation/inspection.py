"""Study a model that a user names, on data that a user names: `crate inspect`.

open the model -> its inputs as a stream -> study it (and a baseline) -> write the study
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..analysis.study import SHOWN_NEURONS, Baseline, Study, StudyOptions, study_model
from ..data import over_classes
from ..errors import UserError
from ..models.inputs import has_processor
from .inputs import Inputs, image_inputs, tensor_inputs, text_inputs
from .opening import open_model, tokenizer_of

Progress = Callable[[Any, int | None, str], Iterable[Any]]  # (batches, number of samples, what is done) -> batches


@dataclass(frozen=True)
class Subject:
    """The model and the data to study, as a user names them.

    Attributes:
        model, heads: as in `open_model`. baseline, baseline_heads: a second model of the same kind of inputs.
        data: as in `image_inputs`, for a model that reads images (None is the digits); or "tensors:FILE.safetensors".
        text: a file, or words, for a model that reads text; data="text:FILE" says the same.
        split, limit: as in `image_inputs` and `text_inputs`.
    """

    model: str
    heads: int | None = None
    baseline: str | None = None
    baseline_heads: int | None = None
    data: str | None = None
    text: str | None = None
    split: str = "test"
    limit: int | None = None


def _unchanged(batches: Iterable[Any], count: int | None, what: str) -> Iterable[Any]:
    return batches


def study_source(
    subject: Subject,
    options: StudyOptions | None = None,
    *,
    progress: Progress = _unchanged,
    on_note: Callable[[str], None] = lambda line: None,
) -> Study:
    """Study a model; nothing is drawn or written.

    Args:
        options: mode, part, batch_size, layer, num_pictures, patch and num_neurons are used; the model and its inputs
            give the others.
        progress: passes the batches on, and may show how many were read. on_note: as in `open_model`.

    Raises:
        UserError: the model, the data or the options do not fit.
    """
    model = open_model(subject.model, subject.heads, in_single=True, on_note=on_note)
    return _study(model, subject, options or StudyOptions(), progress, on_note)


def inspect_source(
    subject: Subject,
    output: Path,
    options: StudyOptions | None = None,
    *,
    progress: Progress = _unchanged,
    on_note: Callable[[str], None] = lambda line: None,
) -> Study:
    """Study a model as `study_source` does, and write the study into a folder, which is made where it is missing.

    Raises:
        UserError: as in `study_source`.
    """
    model = open_model(subject.model, subject.heads, in_single=True, on_note=on_note)
    output.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made fails before the work
    study = _study(model, subject, options or StudyOptions(), progress, on_note)
    study.write(output)
    return study


def _study(
    model: PreTrainedModel, subject: Subject, options: StudyOptions, progress: Progress, on_note: Callable[[str], None]
) -> Study:
    name = Path(subject.model).name
    subject = subject if _reads_images(model) else _with_text(subject)
    _check_fit(model, name, subject, options)
    inputs, tokenizer = _inputs_of(model, subject.model, subject, options.batch_size)
    baseline = None
    if subject.baseline is not None:
        other = open_model(
            subject.baseline, subject.baseline_heads, option="--baseline-heads", in_single=True, on_note=on_note
        )
        if other.main_input_name != model.main_input_name:
            reads = "images" if _reads_images(model) else "text"
            raise UserError(f"{name} reads {reads}, {Path(subject.baseline).name} does not: no baseline of it")
        # the same data, through the baseline's own processor or tokenizer
        more, own_tokenizer = _inputs_of(other, subject.baseline, subject, options.batch_size)
        stream = progress(more.batches, more.count, "measuring")
        baseline = Baseline(Path(subject.baseline).name, other, stream, more.normalisation, own_tokenizer)
    own = replace(options, name=name, on=inputs.name, normalisation=inputs.normalisation, tokenizer=tokenizer)
    own = replace(own, remarks=(*own.remarks, *_without_processor(model, subject)))
    if inputs.names:
        own = _over_all(own, inputs)
    if not _reads_images(model) and own.num_neurons is None:
        own = replace(own, num_neurons=SHOWN_NEURONS)
    study = study_model(model, progress(inputs.batches, inputs.count, "measuring"), own, baseline)
    for remark in (*study.notes, *study.remarks):
        on_note(remark)
    return study


def _without_processor(model: PreTrainedModel, subject: Subject) -> list[str]:
    """Sentences on models whose pictures are not prepared by a saved image processor."""
    if not _reads_images(model) or (subject.data or "").startswith("tensors:"):
        return []
    return [
        f"{Path(source).name} has no image processor beside it: pictures are resized, cropped and normalised as "
        "ImageNet's are evaluated, which may not be how it was trained"
        for source in (subject.model, subject.baseline)
        if source is not None and not has_processor(source)
    ]


def _over_all(options: StudyOptions, inputs: Inputs) -> StudyOptions:
    """The same, with pictures of as many classes as there can be to look at closely, or evenly apart among files."""
    labels = inputs.labels or range(len(inputs.names))
    places = over_classes(labels, min(options.num_pictures, len(inputs.names)))
    return replace(options, places=tuple(places), names=tuple(inputs.names[place] for place in places))


def _reads_images(model: PreTrainedModel) -> bool:
    return model.main_input_name == "pixel_values"


def _with_text(subject: Subject) -> Subject:
    """The same subject, in which data that are called "text:FILE" are the text."""
    if subject.data is None or not subject.data.startswith("text:"):
        return subject
    return replace(subject, text=subject.text or subject.data.removeprefix("text:"), data=None)


def _check_fit(model: PreTrainedModel, name: str, subject: Subject, options: StudyOptions) -> None:
    if _reads_images(model):
        if subject.text is not None:
            raise UserError(f"{name} reads images: pass --data, not --text")
        return
    for option, given in (("--part", options.part != "encoder"), ("--patch", options.patch is not None)):
        if given:
            raise UserError(f"{name} reads text: {option} is of images")
    if (subject.text is None) == (subject.data is None):
        raise UserError(f"{name} reads text: pass --text FILE (or words)")
    if subject.data is not None and not subject.data.startswith("tensors:"):
        raise UserError(f"{name} reads text: pass --text FILE (or words), or --data tensors:FILE.safetensors")


def _inputs_of(
    model: PreTrainedModel, source: str, subject: Subject, batch_size: int
) -> tuple[Inputs, PreTrainedTokenizerBase | None]:
    """The inputs of the model at `source`, and its tokenizer where it reads text."""
    if _reads_images(model):
        return image_inputs(model, source, subject.data or "digits", subject.split, subject.limit, batch_size), None
    if subject.text is None:
        return tensor_inputs((subject.data or "").removeprefix("tensors:"), subject.limit), None
    tokenizer = tokenizer_of(source)
    return text_inputs(model, tokenizer, subject.text, subject.limit, batch_size=batch_size), tokenizer


__all__ = ["Progress", "Subject", "inspect_source", "study_source"]
