"""The report of a run: its result, its curves, the sections of its task, and the measures of its layers."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis import LayerMeasures, measure_layers
from ..errors import one_line
from ..evaluation.publishing import CAPTIONS, CARD_FILE, FIGURES, LAYERS_FILE, card_of_folder
from ..files import write_bytes
from ..recipes.schema import Recipe
from ..report.charts import charts_html, panels_html
from ..report.curves import curves_charts, curves_figure, curves_rows
from ..report.heats import heat_html
from ..report.layers import layer_heats, layers_charts, layers_figure
from ..report.plates import Plate
from ..report.sections import Section, write_report
from ..report.writing import write_csv
from .tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_SAMPLES_TO_MEASURE = 256


def report_run(
    path: Path,
    recipe: Recipe,
    task: Task,
    history: list[dict[str, Any]],
    metrics: dict[str, Any],
    on_note: Callable[[str], None],
) -> None:
    """Write the report of a finished run.

    A report that cannot be drawn does not fail the run: its page then holds the result and the reason.

    Args:
        path: the page to write. history: the Trainer's log. metrics: the content of metrics.json.
        on_note: receives a line where the report cannot be drawn.
    """
    model = task.finished_model().eval()
    rows = [
        {"": f"{part} {name}", "value": _readable(value)}
        for part, values in metrics.items()
        for name, value in values.items()
    ]
    result, title = Section("Result", table=rows, details=task.notes), f"{recipe.name}: {type(model).__name__}"
    try:
        samples = task.sample_inputs(_SAMPLES_TO_MEASURE)
        record = measure_layers(model, samples)
        sections = [
            result,
            _curves_section(task, history),
            *task.report(model, history),
            *_layer_sections(recipe, record, history),
        ]
        _leave_beside(path.parent, record, curves_figure(history, task.metric))
        write_report(path, title, sections, recipe.to_dict())
    except Exception as error:  # whatever it is: model and metrics are there
        reason = f"{type(error).__name__}: {one_line(error)}"
        on_note(f"the report could not be drawn ({reason}); model and metrics.json are complete")
        logger.debug("the report could not be drawn", exc_info=True)
        write_report(path, title, [result, Section("Not drawn", reason)], recipe.to_dict())


def _leave_beside(folder: Path, record: LayerMeasures, curves: "Figure") -> None:
    """The model card, and the measures and figures that it shows."""
    write_csv(folder / LAYERS_FILE, record.rows())
    for name, figure in (("layers", layers_figure({record.model: record})), ("curves", curves)):
        picture = Plate(name, figure, CAPTIONS[name]).render("png", captioned=False)
        write_bytes(folder / FIGURES / f"{name}.png", picture)
    write_bytes(folder / CARD_FILE, card_of_folder(folder).encode())


def _curves_section(task: Task, history: list[dict[str, Any]]) -> Section:
    rows = curves_rows(history, task.metric)
    return Section("Curves", drawn=charts_html(curves_charts(history, task.metric), rows, "curves.csv"))


def _layer_sections(recipe: Recipe, record: LayerMeasures, history: list[dict[str, Any]]) -> list[Section]:
    sections = [
        Section(
            "What the layers do",
            "Coding rate of the tokens under each layer's subspaces (official mode: unit tokens, epsilon = 0.1) and "
            "fraction of non-zero codes after the sparsification; mean and standard deviation over "
            f"{record.num_samples} samples.",
            drawn=charts_html(layers_charts({record.model: record}), record.rows(), "layers.csv"),
        )
    ]
    heats = layer_heats(history)
    if heats:
        text = f"The same measures every {recipe.train.measure_every} steps: compression as it is learnt."
        sections.append(Section("Layers over training", text, drawn=panels_html(map(heat_html, heats))))
    return sections


def _readable(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


__all__ = ["report_run"]
