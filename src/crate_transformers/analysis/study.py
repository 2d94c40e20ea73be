"""A study: all of one look at a model, in memory. It is numbers first; nothing is drawn before a page or file is asked
for.

    study_model(model, inputs, options) -> Study -> to_dict() | to_html() | write(folder)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..errors import UserError
from ..files import write_bytes
from ..objective.coding_rate import RateMode
from ..report.charts import download_html
from ..report.page import page_html
from ..report.plates import Plate
from ..report.tables import table_html
from ..report.writing import plain, write_arrays, write_csv, write_json
from .architectures import all_make, backbone_of, unwrap
from .attention import gives_all_maps, num_layers_of, resolve_layer, segmentation_layer
from .batches import KeptSamples, ModelInputs
from .gathering import gather
from .measures import LayerMeasures, LayerMeter
from .neurons import NeuronTally
from .picture_look import Normalisation, PictureLook, look_at_pictures
from .plates import heading_of, measure_plates, picture_plates
from .text import Decoder, TextLook, look_at_text
from .tracing import patch_grid

_NO_MAPS = "attention maps and what is made of them: some layers mix their tokens without such a map"
SHOWN_NEURONS = 12  # of a text model, where the user names no number


@dataclass(frozen=True)
class StudyOptions:
    """What to look at, and what to call it.

    Attributes:
        mode, part, batch_size: as in `measure_layers`.
        name, on: what to call the model and the data.
        layer: from 0, negative from the end. Of pictures, for maps and components: None is the second-to-last. Of text,
            for neurons: None is the last.
        num_pictures: how many images to look at closely, an encoder's alone; the first ones, where there are no places.
        places: which images to look at closely instead of the first, from 0, in the order in which they are shown.
        names: what to call the images that are looked at closely, such as their classes; none are numbers.
        patch: (row, column) of a patch whose attention is looked at too.
        normalisation: (mean, standard deviation) of the images, to show them in their own colours.
        num_neurons: how many neurons of a text model to show, the most selective first, and with them the attention
            over the first tokens; None is neither.
        tokenizer: to show tokens as text; None shows their numbers.
        remarks: sentences about the inputs that belong to the results.

    Example:
        >>> StudyOptions(mode="paper", num_pictures=2).part
        'encoder'
    """

    mode: RateMode = "official"
    part: str = "encoder"
    batch_size: int = 16
    name: str = "model"
    on: str = "the given inputs"
    layer: int | None = None
    num_pictures: int = 6
    patch: tuple[int, int] | None = None
    normalisation: Normalisation | None = None
    num_neurons: int | None = None
    tokenizer: Decoder | None = None
    remarks: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


class Baseline(NamedTuple):
    """A second model, to be measured and looked at beside the first: what to call it, the model, its inputs.

    normalisation: (mean, standard deviation) of its images, to show them in their own colours. tokenizer: of its text.
    """

    name: str
    model: nn.Module
    inputs: ModelInputs
    normalisation: Normalisation | None = None
    tokenizer: Decoder | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """All of one look at a model, in memory.

    Attributes:
        name, on: what the model and the data are called.
        measures: of the model, and after it of the baseline, by name.
        pictures: what the model sees in the first images, or None. text: what it makes of text, or None.
        notes: what could not be looked at, and why.
        baseline_pictures, baseline_text: the same of the baseline, or None.
        remarks: what to bear in mind when the numbers are read.

    Example:
        >>> import torch
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> study = study_model(model, torch.rand(2, 3, 32, 32), StudyOptions(name="tiny", on="noise", num_pictures=1))
        >>> study.facts["model"], study.facts["data"], len(study.rows())
        ('tiny (CrateVisionModel)', 'noise', 12)
    """

    name: str
    on: str
    measures: Mapping[str, LayerMeasures]
    pictures: PictureLook | None = None
    text: TextLook | None = None
    notes: tuple[str, ...] = ()
    baseline_pictures: PictureLook | None = None
    remarks: tuple[str, ...] = ()
    baseline_text: TextLook | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What was looked at, on what, how."""
        own = self.measures[self.name]
        facts: dict[str, Any] = {"model": f"{self.name} ({own.model})", "data": self.on}
        if self.text is not None:
            facts |= {"sequences": own.num_samples, "tokens": self.text.neurons.num_tokens}
        else:
            facts |= {"samples": own.num_samples}
        facts |= {"mode": own.mode, "epsilon": own.epsilon}
        if self.text is None:
            facts["part"] = own.part
        facts |= {"left out": "; ".join(self.notes)} if self.notes else {}
        return facts | ({"mind": "; ".join(self.remarks)} if self.remarks else {})

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer, as in measures.csv; with a baseline its first key is `model`."""
        if len(self.measures) == 1:
            return list(self.measures[self.name].rows())
        return [{"model": name, **row} for name, own in self.measures.items() for row in own.rows()]

    def to_dict(self) -> dict[str, Any]:
        """Everything as data that JSON holds: facts, models (measures by name), pictures and text (or None).

        `baseline_pictures`, or `baseline_text`, is there where a baseline was looked at.
        """
        looks = {"baseline_pictures": self.baseline_pictures, "baseline_text": self.baseline_text}
        return plain(
            {
                **self._measures_dict(),
                "pictures": None if self.pictures is None else self.pictures.to_dict(),
                "text": None if self.text is None else self.text.to_dict(),
                **{name: look.to_dict() for name, look in looks.items() if look is not None},
            }
        )

    def _measures_dict(self) -> dict[str, Any]:
        return {"facts": self.facts, "models": {name: own.to_dict() for name, own in self.measures.items()}}

    @cached_property
    def plates(self) -> tuple[Plate, ...]:
        """The figures with their captions, drawn when they are first asked for."""
        plates = measure_plates(self.measures, self.on)
        looks = (self.pictures, self.baseline_pictures)
        for number, (name, look) in enumerate(zip(self.measures, looks, strict=False), start=1):
            plates += [] if look is None else picture_plates(look, name, self.on, number)
        return tuple(plates)

    def to_html(self) -> str:
        """The whole page, which loads nothing from elsewhere."""
        rows = self.rows()
        sections = [(heading_of(plate.name), plate.html()) for plate in self.plates]
        sections += [] if self.text is None else self.text.sections()
        sections += [] if self.baseline_text is None else self.baseline_text.sections(" (baseline)")
        sections.append(("All measures", table_html(rows) + download_html(rows, "measures.csv")))
        return page_html(f"Inside {self.name}", self.facts, sections)

    def write(self, folder: str | Path) -> list[Path]:
        """Write the study; files of the same names are replaced, others stay.

        measures.csv and measures.json, every plate as png and svg, report.html; attention.npz of pictures, and
        attention_2.npz of what the baseline sees in them; neurons.csv of text, neurons_2.csv of the baseline's.

        Returns:
            the files.
        """
        folder = Path(folder)
        content = {**self._measures_dict(), **self.measures[self.name].to_dict()}
        files = [write_csv(folder / "measures.csv", self.rows()), write_json(folder / "measures.json", content)]
        for plate in self.plates:
            files += plate.write(folder)
        files.append(write_bytes(folder / "report.html", self.to_html().encode()))
        for name, look in (("attention", self.pictures), ("attention_2", self.baseline_pictures)):
            if look is not None:
                files.append(write_arrays(folder / f"{name}.npz", attention=look.attention.maps.numpy()))
        for name, read in (("neurons", self.text), ("neurons_2", self.baseline_text)):
            if read is not None:
                files.append(write_csv(folder / f"{name}.csv", read.neurons.rows()))
        return files


def study_model(
    model: nn.Module,
    inputs: ModelInputs,
    options: StudyOptions | None = None,
    baseline: Baseline | None = None,
) -> Study:
    """Look at a model in one pass over its inputs: measures, and what it sees in the first images or makes of text.

    Args:
        model, inputs: as in `measure_layers`; the inputs are gone through once and never held.
        baseline: measured and looked at in the same way, on its own inputs.

    Raises:
        ValueError: as in `measure_layers`; a layer or patch that does not exist; two models of one name.

    Example:
        >>> import torch
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> study = study_model(model, torch.zeros(2, 3, 32, 32), StudyOptions(num_pictures=0))
        >>> len(study.measures["model"]), study.facts["samples"]
        (12, 2)
    """
    options = options or StudyOptions()
    if baseline is not None and baseline.name == options.name:
        raise UserError(f"model and baseline are both called {options.name!r}: rename one of the folders")
    reads_pictures = unwrap(model).main_input_name == "pixel_values"
    if reads_pictures:
        segmentation_layer(model, options.layer)  # a layer that does not exist is told before the work, not after
    tally = None
    if options.num_neurons is not None:
        tally = NeuronTally(resolve_layer(-1 if options.layer is None else options.layer, num_layers_of(model)))
    places = options.places or range(options.num_pictures)
    first = KeptSamples(inputs, [0] if tally is not None else places)
    meter = LayerMeter(model, options.mode, part=options.part)
    gather(model, first, [meter, *([tally] if tally else [])], part=options.part, batch_size=options.batch_size)
    measures = {options.name: meter.result()}
    notes: list[str] = []
    remarks = list(options.remarks)
    other, other_text = None, None
    if baseline is not None and reads_pictures:
        measures[baseline.name], other = _look_at_baseline(baseline, options, notes, remarks)
    elif baseline is not None:
        measures[baseline.name], other_text = _read_with_baseline(baseline, options, notes)
    if baseline is not None:
        remarks += _unequal(model, baseline.model, measures)
    own_notes = []
    if options.part == "encoder" and not gives_all_maps(model):
        own_notes.append(_NO_MAPS)
    pictures = _look_at_pictures(model, first, options) if reads_pictures and not own_notes else None
    text = None
    if tally is not None:
        shown = None if own_notes else _first_sequence(first)
        text = look_at_text(model, tally.result(), shown, options.tokenizer, options.num_neurons or 0)
    told = (*own_notes, *notes), other, tuple(remarks), other_text
    return Study(options.name, options.on, measures, pictures, text, *told)


def _look_at_baseline(
    baseline: Baseline, options: StudyOptions, notes: list[str], remarks: list[str]
) -> tuple[LayerMeasures, PictureLook | None]:
    """(measures of a baseline, what it sees in the first images); what cannot be looked at goes to the notes."""
    places = options.places or range(options.num_pictures)
    first = KeptSamples(baseline.inputs, places)
    meter = LayerMeter(baseline.model, options.mode)
    gather(baseline.model, first, [meter], batch_size=options.batch_size)
    measures = meter.result()
    if options.part != "encoder":
        remarks.append(f"{baseline.name} is measured in its encoder, {options.name} in its {options.part}")
    images = first.of("pixel_values")
    if images is None or options.part != "encoder":
        return measures, None
    if not gives_all_maps(baseline.model):
        notes.append(f"of {baseline.name}, {_NO_MAPS}")
        return measures, None
    layer, patch, depth = options.layer, options.patch, len(measures)
    if layer is not None and not -depth <= layer < depth:
        layer = segmentation_layer(baseline.model, None)
        notes.append(f"layer {options.layer} of {baseline.name}, which has {depth}: layer {layer} is drawn instead")
    if patch is not None and (reason := _no_such_patch(baseline.model, images, patch)):
        notes.append(f"where patch {patch[0]}, {patch[1]} of {baseline.name} looks: {reason}")
        patch = None
    return measures, look_at_pictures(baseline.model, images, layer, patch, baseline.normalisation, options.names)


def _read_with_baseline(
    baseline: Baseline, options: StudyOptions, notes: list[str]
) -> tuple[LayerMeasures, TextLook | None]:
    """(measures of a baseline, what it makes of the text); what cannot be looked at goes to the notes."""
    meter = LayerMeter(baseline.model, options.mode)
    if options.num_neurons is None:
        gather(baseline.model, baseline.inputs, [meter], batch_size=options.batch_size)
        return meter.result(), None
    depth, layer = num_layers_of(baseline.model), -1 if options.layer is None else options.layer
    if not -depth <= layer < depth:
        notes.append(f"layer {layer} of {baseline.name}, which has {depth}: layer {depth - 1} is read instead")
        layer = -1
    tally = NeuronTally(resolve_layer(layer, depth))
    first = KeptSamples(baseline.inputs, [0])
    gather(baseline.model, first, [meter, tally], batch_size=options.batch_size)
    sequence = _first_sequence(first)
    if not gives_all_maps(baseline.model):
        notes.append(f"of {baseline.name}, {_NO_MAPS}")
        sequence = None
    look = look_at_text(baseline.model, tally.result(), sequence, baseline.tokenizer, options.num_neurons)
    return meter.result(), look


def _no_such_patch(model: nn.Module, images: Tensor, patch: tuple[int, int]) -> str | None:
    """Why a model has no attention of a patch; None where it has."""
    if all_make(model, "memberships"):
        return "its layers compare no tokens pairwise"
    rows, columns = patch_grid(backbone_of(model), images)
    if patch[0] < rows and patch[1] < columns:
        return None
    return f"its grid has {rows} rows and {columns} columns"


def _unequal(model: nn.Module, other: nn.Module, measures: Mapping[str, LayerMeasures]) -> list[str]:
    """Sentences on what two models do not share and their rates depend on."""
    (one_name, one), (other_name, two) = measures.items()
    found = []
    if one.tokens_per_sample != two.tokens_per_sample:
        found.append(
            f"{one_name} has {one.tokens_per_sample:g} tokens a sample, {other_name} {two.tokens_per_sample:g}: rates "
            "depend on the number of tokens, so compare their course over the layers, not their height"
        )
    widths = [int(backbone_of(each).config.hidden_size) for each in (model, other)]
    if widths[0] != widths[1]:
        found.append(f"{one_name} is {widths[0]} wide, {other_name} {widths[1]}: rates depend on the width too")
    if one.num_samples != two.num_samples:
        found.append(f"{one_name} was measured on {one.num_samples} samples, {other_name} on {two.num_samples}")
    return found


def _look_at_pictures(model: nn.Module, kept: KeptSamples, options: StudyOptions) -> PictureLook | None:
    images = kept.of("pixel_values")
    if images is None or options.part != "encoder":
        return None
    return look_at_pictures(model, images, options.layer, options.patch, options.normalisation, options.names)


def _first_sequence(first: KeptSamples) -> Tensor | None:
    """(1, N) token ids of the first sequence without the padding at its end."""
    ids, mask = first.of("input_ids"), first.of("attention_mask")
    return ids if ids is None or mask is None else ids[:, : int(mask[0].sum())]


__all__ = ["SHOWN_NEURONS", "Baseline", "Study", "StudyOptions", "study_model"]
