"""What the page may ask, and what is refused."""

import pytest

from crate_transformers.explore.state import MAX_TEXT, State, read_state


def test_a_state_is_what_it_was():
    given = {
        "picture": "upload-3",
        "painted": [4, 2, 2],
        "lambda": {"0": 0.25},
        "eta": {"3": 0.5},
        "heads_off": [[1, 2], [0, 1]],
        "neurons": [[2, 17, 1.5]],
        "neurons_of_tokens": [3],
        "which": "other",
        "other": "untrained",
        "mode": "paper",
        "layer": 2,
        "head": 1,
        "token": 7,
        "neuron": 17,
    }
    state = read_state(given)
    assert state.painted == (2, 4)
    assert state.edit.first_layer == 0
    assert read_state(state.to_dict()) == state
    assert read_state({}) == State()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "must be a JSON object"),
        ({"pitcure": 1}, "unknown field 'pitcure'"),
        ({"picture": -1}, "picture must be a whole number"),
        ({"picture": True}, "picture must be a whole number"),
        ({"picture": "x" * 300}, "at most 200 characters"),
        ({"text": 3}, "text must be a string"),
        ({"text": "x" * (MAX_TEXT + 1)}, "shorten it"),
        ({"painted": 3}, "painted must be a list"),
        ({"painted": list(range(5000))}, "at most 4096"),
        ({"lambda": {"a": 1}}, "lambda must name layers"),
        ({"lambda": {"0": float("nan")}}, "lambda must be a finite number"),
        ({"eta": [1]}, "eta must be an object"),
        ({"heads_off": [[1]]}, "a list of 2 numbers"),
        ({"neurons": [[1, 2, "x"]]}, "neurons must be a finite number"),
        ({"which": "both"}, "which must be model or other"),
        ({"mode": "fast"}, "mode must be official or paper"),
        ({"layer": 1.5}, "layer must be a whole number"),
        ({"token": None}, "token must be a whole number"),
    ],
)
def test_what_does_not_fit_is_named(given, says):
    with pytest.raises(ValueError, match=says):
        read_state(given)
