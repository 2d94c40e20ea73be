"""Rounds, order, ratio and interval."""

import pytest

from crate_transformers.bench import Timing, interleave, ratio


def test_every_contender_runs_once_a_round_in_an_order_that_rotates():
    calls = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, repetitions=4, warmup=2)
    rounds = ["".join(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert len(rounds) == 6
    assert all(sorted(names) == list("abc") for names in rounds)
    assert set(rounds) == {"abc", "bca", "cab"}
    assert all(len(timing.seconds) == 4 for timing in timings.values())


def test_budget_ends_a_run_after_three_rounds():
    timings = interleave({"a": lambda: None}, repetitions=50, warmup=0, budget=0.0)
    assert len(timings["a"].seconds) == 3


def test_ratio_is_of_medians_and_inside_its_interval():
    fast, slow = Timing((1.0, 1.1, 0.9, 9.0, 1.0)), Timing((2.0, 2.2, 1.8, 18.0, 2.0))
    result = ratio(slow, fast)
    assert result.value == pytest.approx(2.0)
    assert result.low <= result.value <= result.high
    assert result.low == pytest.approx(2.0)  # each round doubled: no draw of rounds says otherwise
    assert ratio(fast, fast) == ratio(fast, fast)


def test_bad_input():
    with pytest.raises(ValueError, match="nothing to time"):
        interleave({}, repetitions=3)
    with pytest.raises(ValueError, match="same rounds"):
        ratio(Timing((1.0, 2.0)), Timing((1.0,)))
