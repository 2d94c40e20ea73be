"""Damaged files, the short form; damage.py says how, and what is run by hand."""

import pytest
from damage import outcomes

MOST_SECONDS = 20.0  # of one file, on a machine that is busy


@pytest.mark.parametrize(("kind", "count"), [("pictures", 300), ("checkpoints", 40), ("recipes", 40)])
def test_damaged_files_end_with_a_result_or_one_line(kind, count, tmp_path):
    found = list(outcomes(kind, count, seed=1, folder=tmp_path))
    faults = [f"{outcome.file}: {outcome.told}" for outcome in found if outcome.kind == "fault"]
    assert faults == []
    assert max(outcome.seconds for outcome in found) <= MOST_SECONDS
    assert {outcome.kind for outcome in found} == {"result", "line"}  # whole ones and damaged ones are told apart
