"""The objective after every half-step, and the angles of the steps."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...analysis import Edit, descent_angles, edited
from ...analysis.half_steps import POINTS, LadderMeter
from ..answers import Answer, without_nan
from ..looking import Looking
from ..state import State


def ladder(look: Looking, state: State) -> Answer:
    """`analysis.measure_half_steps` of both models: now, and without the change."""
    data: dict[str, Any] = {"points": list(POINTS), "mode": state.mode}
    for which in look.both(state):
        subject = look.subject(state, which)
        meter = LadderMeter(subject.model, state.mode)
        entry: dict[str, Any] = {"name": subject.name}
        for name, changed in (("now", True), ("before", False)):
            ladder = meter.ladder(*_measured(look, state, which, meter, changed))
            entry["coding_rate_of"] = ladder.coding_rate_of
            entry[name] = {
                **{column: ladder.of(column).tolist() for column in ladder.columns},
                "compresses": ladder.compresses,
                "sparsifies": ladder.sparsifies,
            }
        data[which] = without_nan(entry)
    return Answer(data)


def ladder_rows(look: Looking, state: State) -> list[dict[str, Any]]:
    """The ladder of both models as a table: model, layer, point, a column a measure."""
    rows = []
    for which in look.both(state):
        subject = look.subject(state, which)
        meter = LadderMeter(subject.model, state.mode)
        ladder = meter.ladder(*_measured(look, state, which, meter, True))
        rows += [{"model": subject.name, **row} for row in ladder.rows()]
    return rows


def angles(look: Looking, state: State) -> Answer:
    """`analysis.descent_angles` of both models, degrees, a layer each."""
    data: dict[str, Any] = {}
    for which in look.both(state):
        run = look.run(state, which)
        with edited(look.subject(state, which).model, run.edit):
            data[which] = descent_angles(look.subject(state, which).model, run.trace, state.mode)[:, 0].tolist()
    return Answer(without_nan(data))


def _measured(look: Looking, state: State, which: str, meter: LadderMeter, changed: bool) -> tuple[Tensor, Tensor]:
    """(values (L, 3, 5), entries (L, 3)); layers before the first change are those of the run without it."""
    run = look.run(state, which, changed)
    key = (*look.key(state, which, changed), state.mode)
    start = run.edit.first_layer
    if start is None:
        if key in look.measures:
            return look.measures[key]
        values, entries = meter.values(run.trace)
        return look.measures.keep(key, (values[0].cpu(), entries))
    plain, plain_entries = _measured(look, replace(state, edit=Edit()), which, meter, changed)
    values, entries = meter.values(run.trace, start)
    return torch.cat([plain[:start], values[0].cpu()]), torch.cat([plain_entries[:start], entries])


__all__ = ["angles", "ladder", "ladder_rows"]
