"""Look at a whole model and write what was found: a table, figures and one html page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

from ..objective.coding_rate import RateMode
from ..report.plates import Plate
from .batches import ModelInputs
from .measures import LayerMeasures
from .picture_look import Normalisation
from .study import SHOWN_NEURONS, Baseline, Study, StudyOptions, study_model
from .text import Decoder

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Inspection:
    """What was found and written: measures, plates (figures with captions), files.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> from crate_transformers.analysis import measure_layers
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> Inspection(measure_layers(model, torch.rand(2, 3, 32, 32)), plates=(), files=()).measures.num_samples
        2
    """

    measures: LayerMeasures
    plates: tuple[Plate, ...]
    files: tuple[Path, ...]


class ModelOptions(TypedDict, total=False):
    """Keywords of `inspect_model`, as in `StudyOptions`."""

    name: str
    on: str
    part: str
    layer: int | None
    num_pictures: int
    patch: tuple[int, int] | None
    normalisation: Normalisation | None
    batch_size: int


class TextOptions(TypedDict, total=False):
    """Keywords of `inspect_text`, as in `StudyOptions`."""

    tokenizer: Decoder | None
    name: str
    on: str
    layer: int | None
    num_neurons: int
    batch_size: int


def inspect_model(
    model: nn.Module,
    inputs: ModelInputs,
    output: str | Path,
    mode: RateMode = "official",
    *,
    baseline: tuple[str, nn.Module, ModelInputs] | None = None,
    **options: "Unpack[ModelOptions]",
) -> Inspection:
    """Measure a model on a stream of inputs and write a table, figures and one html page: study it, then write.

    Args:
        model, inputs, mode: as in `measure_layers`. Inputs are streamed, and the first images kept for the maps.
        output: the folder to write; files of the same names in it are replaced, others stay.
        baseline: (name, model, its inputs), drawn in the same figures.
        options: name, on, part, layer, num_pictures, patch, normalisation, batch_size, as in `StudyOptions`.

    Raises:
        ValueError: as in `study_model`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8, num_hidden_layers=2)
        >>> model = CrateVisionModel(config).eval()
        >>> with TemporaryDirectory() as folder:
        ...     result = inspect_model(model, torch.rand(2, 3, 32, 32), folder, num_pictures=0)
        >>> len(result.measures), [plate.name for plate in result.plates]
        (2, ['layers', 'objective', 'subspaces'])
    """
    return _written(_study(model, inputs, baseline, {"mode": mode, **options}), output)


def inspect_text(
    model: nn.Module,
    inputs: ModelInputs,
    output: str | Path,
    mode: RateMode = "official",
    *,
    baseline: tuple[str, nn.Module, ModelInputs] | None = None,
    **options: "Unpack[TextOptions]",
) -> Inspection:
    """Measure a text model on a stream, and show its neurons and its attention: table, figures, one html page.

    Args:
        model, inputs, mode: as in `measure_layers`. Inputs are streamed, and the first sequence kept for its attention.
        output: the folder to write; files of the same names in it are replaced, others stay.
        baseline: (name, model, its inputs), drawn in the same figures.
        options: tokenizer, name, on, layer, num_neurons (12 where it is not given), batch_size, as in `StudyOptions`.

    Raises:
        ValueError: as in `study_model`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from crate_transformers import CrateConfig, CrateForCausalLM
        >>> sizes = {"vocab_size": 97, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 1}
        >>> model = CrateForCausalLM(CrateConfig.from_size("gpt2-tiny", **sizes)).eval()
        >>> with TemporaryDirectory() as folder:
        ...     result = inspect_text(model, torch.arange(5, 19).view(2, 7), folder)
        >>> "report.html" in [path.name for path in result.files]
        True
    """
    asked = {"mode": mode, "on": "the given text", "num_neurons": SHOWN_NEURONS, **options}
    return _written(_study(model, inputs, baseline, asked), output)


def _study(
    model: nn.Module,
    inputs: ModelInputs,
    baseline: tuple[str, nn.Module, ModelInputs] | None,
    options: dict[str, Any],
) -> Study:
    return study_model(model, inputs, StudyOptions(**options), None if baseline is None else Baseline(*baseline))


def _written(study: Study, output: str | Path) -> Inspection:
    files = study.write(output)
    return Inspection(study.measures[study.name], study.plates, tuple(files))


__all__ = ["Inspection", "ModelOptions", "TextOptions", "inspect_model", "inspect_text"]
