"""The stored first view is what the page would show."""

import gzip
import json

import pytest

from crate_transformers.explore.first import PARTS, first_view
from crate_transformers.explore.service import Service
from crate_transformers.explore.state import State
from crate_transformers.explore.subjects import open_subjects


def test_the_stored_first_view_is_that_of_the_models():
    service = Service(open_subjects(None))
    line = gzip.decompress(first_view().read_bytes()).split(b"\n")[0]
    stored = json.loads(line)["data"]
    assert stored["describe"] == json.loads(json.dumps(service.describe(State()).data))
    answer = service.answer(State(), PARTS).data
    assert stored["answer"].keys() == answer.keys()
    for which in ("model", "other"):
        shown = stored["answer"]["prediction"][which]["probabilities"]
        assert shown == pytest.approx(answer["prediction"][which]["probabilities"], abs=1e-4)
        for column, values in stored["answer"]["ladder"][which]["now"].items():
            for own, other in zip(values, answer["ladder"][which]["now"][column], strict=True):
                assert own == pytest.approx(other, rel=1e-4, abs=1e-4)
