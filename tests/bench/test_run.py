"""A contest is measured whole; a suite leaves its files."""

import json
from dataclasses import replace

import pytest
import torch

from crate_transformers.bench import (
    SUITES,
    Case,
    Contest,
    build,
    contenders,
    contests_of,
    run_contest,
    run_suite,
    suites,
)
from crate_transformers.bench.contenders import cache_bytes
from crate_transformers.bench.memory import peak_memory

SMALL = Case("vision", "tiny", 2, image_size=32, layers=1)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_cases_have_labels_of_their_own(suite, quick):
    labels = [contest.case.label for contest in contests_of(suite, quick)]
    assert labels
    assert len(set(labels)) == len(labels)


def test_unknown_names():
    with pytest.raises(ValueError, match="vision, best, bfloat16, text, length, analysis, loading, weights, family"):
        contests_of("visoin")
    with pytest.raises(ValueError, match="no contender for vision"):
        build("gpt2", SMALL)
    with pytest.raises(ValueError, match="unknown form 'fuzed'"):
        build("crate fuzed", SMALL)


def test_a_form_of_a_decoder_is_measured_with_its_cache():
    case = Case("decoding", "tiny", 1, tokens=3, layers=1)
    rows = run_contest(Contest(case, ("crate", "crate fused")), repetitions=1, warmup=0)
    assert rows[0].cache_bytes == rows[1].cache_bytes > 0


@pytest.mark.parametrize("contest", contests_of("family", quick=True), ids=lambda contest: contest.case.label)
def test_every_contender_of_the_family_works(contest, monkeypatch):
    monkeypatch.setattr(contenders, "_VOCABULARY", 101)
    case = replace(contest.case, image_size=32, tokens=3, layers=1)
    for name in contest.contenders:
        work = build(name, case)
        work.run()
        assert not case.training or all(p.grad is not None for p in work.model.parameters())
        if case.task == "decoding":
            state = 4 * (2 * 384 + 6)  # S, A and P of ToST
            keys = {"crate": 4 * 3 * 384, "gpt2": 2 * 4 * 3 * 384, "tost": state}
            assert cache_bytes(name, case) == keys[name]


def test_rows_of_a_contest():
    rows = run_contest(Contest(SMALL, ("crate", "public", "crate fused")), repetitions=2, warmup=0)
    by_name = {row.contender: row for row in rows}
    assert by_name["crate"].slower.value == 1.0
    assert all(row.throughput == pytest.approx(2 / row.median_s) for row in rows)
    assert all(row.matrix_rate_share > 0 for row in rows)
    # one layer, 2 images of 5 tokens: 2 class tokens of 10 are projected, brought to the width and back, projected
    # again, and sparsified by two products, not three, for they are fewer than the width; fused, by one
    products, mixing = (10 - 3 * 2) + (10 - 2) + (3 * 10 - 2 * 2), 2 * 2 * 5 * 384 * (10 - 2 * 6)
    saved = (2 * products * 384**2 + mixing) / 1e9
    assert by_name["public"].gflop - by_name["crate"].gflop == pytest.approx(saved)
    assert by_name["crate"].gflop - by_name["crate fused"].gflop == pytest.approx(2 * 2 * 384**2 / 1e9)


def test_a_suite_leaves_json_and_a_figure(tmp_path, monkeypatch):
    case = Case("rates", "tiny", 1, tokens=11, layers=2)
    monkeypatch.setitem(suites.SUITES, "analysis", lambda quick: [Contest(case, ("crate", "public"))])
    run_suite("analysis", tmp_path, quick=True)
    record = json.loads((tmp_path / "analysis.json").read_text())
    assert [row["contender"] for row in record["rows"]] == ["crate", "public"]
    assert {"processor", "cores", "torch", "transformers"} <= set(record["machine"])
    assert (tmp_path / "analysis.png").stat().st_size > 0
    assert {file.name for file in tmp_path.iterdir()} == {"analysis.json", "analysis.png"}


def test_the_pipeline_feeds_what_the_step_takes():
    case = Case("loading", "tiny", 3, image_size=32, layers=1)
    batch = build("pipeline", case).run()
    assert batch["pixel_values"].shape == (3, 3, 32, 32)
    assert batch["pixel_values"].std() > 0.1
    rows = run_contest(Contest(case, ("crate", "pipeline")), repetitions=2, warmup=0)
    assert [row.unit for row in rows] == ["images", "images"]


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("crate", SMALL),
        ("crate fused", SMALL),
        ("public", SMALL),
        ("vit", SMALL),
        ("crate", Case("vision", "tiny", 2, training=True, image_size=32, layers=1)),
        ("crate", Case("encoder", "tiny", 2, tokens=8, layers=1)),
        ("bert", Case("encoder", "tiny", 2, tokens=8, layers=1)),
    ],
)
def test_a_contender_is_whole_on_the_default_device(name, case):
    with torch.device("meta"):  # a device on which nothing of the CPU takes part
        work = build(name, case)
        work.run()
    assert {parameter.device.type for parameter in work.model.parameters()} == {"meta"}


@pytest.mark.parametrize(("form", "training"), [("bfloat16", False), ("autocast", True)])
@pytest.mark.parametrize("name", ["crate", "public", "vit"])
def test_every_side_multiplies_in_half_precision(name, form, training):
    work = build(f"{name} {form}", replace(SMALL, training=training))
    linear = next(module for module in work.model.modules() if isinstance(module, torch.nn.Linear))
    seen = []
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    work.run()
    assert set(seen) == {torch.bfloat16}
    assert all((parameter.grad is not None) == training for parameter in work.model.parameters())


def test_peak_memory_in_a_process_of_its_own():
    peak = peak_memory("crate", SMALL)
    assert peak is None or peak > 0


def test_the_cache_is_half_of_gpt2s():
    case = Case("decoding", "tiny", 1, tokens=7, layers=2)
    assert 2 * cache_bytes("crate", case) == cache_bytes("gpt2", case)
