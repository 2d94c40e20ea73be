"""benchmarks/zoo.py: data in memory, the table of runs, what is measured, the results, and the pages made of them."""

import dataclasses
import importlib
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers.utils import logging

from crate_transformers.analysis import BestHeadIoU, attention_masks, resize_masks
from crate_transformers.data import EvaluationTransform
from crate_transformers.models.image_processing import image_processor_of
from crate_transformers.recipes import recipe_of
from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.tasks import TASKS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("evidence.md", "findings.md")]


@pytest.fixture(scope="module")
def zoo():
    """zoo("stored") is a module of benchmarks/evidence/; the task that it makes known is forgotten afterwards."""
    tasks, families, path, verbosity = dict(TASKS), dict(FAMILIES), list(sys.path), logging.get_verbosity()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    importlib.import_module("evidence.pictures").register()
    yield lambda name: importlib.import_module(f"evidence.{name}")
    sys.path[:] = path
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()
    for table, before in ((TASKS, tasks), (FAMILIES, families)):
        table.clear()
        table.update(before)


@pytest.fixture(scope="module")
def tiny(zoo):
    """A scale at which everything takes a second."""
    experiments = zoo("experiments")
    return dataclasses.replace(
        experiments.QUICK,
        data={"composed": experiments.QUICK.data["composed"]},
        steps={"composed": 8},
        trial_steps=2,
        rates=(0.002,),
        seeds=(0,),
        counts={"train": 64, "validation": 20, "test": 24},
        looked={"layers": 8, "robustness": 8, "emergence": 24, "maskcut": 2},
    )


def test_kept_pictures_are_those_of_the_image_processor(zoo, tmp_path):
    pictures = zoo("pictures")
    pictures.keep("digits", tmp_path / "digits", None)
    images = pictures.kept_splits(tmp_path / "digits").test
    config = FAMILIES["crate_vision"].build_config(
        None, {"hidden_size": 8, "num_attention_heads": 2, "image_size": 8, "patch_size": 2, "num_channels": 1}
    )
    processor = image_processor_of(config, False, [0.3], [0.37], "bilinear", None)
    kept = pictures.KeptPixels(images, processor)
    prepared = torch.stack([EvaluationTransform(processor)(images.read(i, 1)) for i in (3, 0, 11)])
    items = kept.__getitems__([(0, 3), (0, 0), (0, 11)])
    assert torch.allclose(torch.stack([item["pixel_values"] for item in items]), prepared, atol=1e-6)
    assert [item["labels"] for item in items] == images.labels[[3, 0, 11]].tolist()


def test_the_best_head_is_the_papers(zoo):
    measures, generator = zoo("measures"), torch.Generator().manual_seed(0)
    truths = torch.zeros(7, 6, 10, dtype=torch.long)
    truths[:, 1:4, 2:7] = torch.tensor([1, 2, 1, 1, 2, 2, 2])[:, None, None]
    masks = attention_masks(torch.rand(7, 5, 3, 5, generator=generator), 0.6, "mass")
    papers = BestHeadIoU()
    for own, labels in zip(masks, truths, strict=True):
        papers.update(resize_masks(own, (6, 10)), labels)
    scores, classes = measures.head_scores(masks, truths), truths.flatten(1).amax(1)
    assert measures.best_head(scores, classes) == pytest.approx(papers.result()["mean_iou"])


def test_a_head_that_is_chosen_on_other_images_is_scored_on_none_of_them(zoo):
    scores = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]]).repeat(2, 1)  # each half has a favourite of its own
    classes = torch.ones(4)
    assert zoo("measures").head_of_others(scores, classes) == 0.0
    assert zoo("measures").best_head(scores, classes) == 0.5


def test_a_run_is_told_by_what_defines_it(zoo):
    experiments = zoo("experiments")
    plan = experiments.Experiments(experiments.FULL)
    recipe = plan.recipe("fashion", {}, 0, learning_rate=0.002)
    run = plan._run("width", "fashion", "CRATE", recipe)
    assert plan._run("map", "fashion", "CRATE", recipe, "ista_lambda=0.1").key == run.key
    assert dataclasses.replace(run, content={**run.content, "name": "other"}).key == run.key
    others = [
        plan._run("width", "fashion", "CRATE", plan.recipe("fashion", {}, 0, learning_rate=0.006)),
        plan._run("width", "fashion", "CRATE", plan.recipe("fashion", {}, 1, learning_rate=0.002)),
        dataclasses.replace(run, looked={"layers": 3}),
    ]
    assert len({run.key, *(other.key for other in others)}) == 4


def test_the_width_is_the_nearest_multiple_of_the_heads(zoo):
    experiments, models = zoo("experiments"), zoo("models")
    plan = experiments.Experiments(experiments.FULL)
    target = models.parameters_of(plan.recipe("fashion", models.GRID["ViT"]), num_labels=10)
    width, recipe = plan.width("fashion", "AoT"), plan.recipe("fashion", models.GRID["AoT"])
    counts = [models.parameters_of(recipe, hidden_size=w, num_labels=10) for w in (width - 4, width, width + 4)]
    assert counts[0] < counts[1] < counts[2]
    assert abs(counts[1] - target) == min(abs(count - target) for count in counts)
    assert width % 4 == 0


def test_trials_are_as_many_for_every_model_and_the_best_on_validation_wins(zoo):
    experiments, models = zoo("experiments"), zoo("models")
    plan = experiments.Experiments(experiments.FULL)
    assert {len(plan.trials("fashion", model)) for model in models.GRID} == {6}
    runs = plan.trials("fashion", "AoT")
    results = {run.key: {"metrics": {"validation": {"accuracy": 0.1}, "test": {"accuracy": 0.9}}} for run in runs}
    assert plan.chosen(runs[:5], {}) is None
    results[runs[3].key] = {"metrics": {"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.0}}}
    results[runs[4].key] = {"diverged": "the loss is not finite"}
    assert plan.chosen(runs, results) == json.loads(runs[3].setting)


def test_intervals_are_students_and_differences_are_welchs(zoo):
    stored, results = zoo("stored"), zoo("results")
    one, other = [0.8, 0.83, 0.86], [0.7, 0.71, 0.74, 0.72]
    values = [stored.Value(*results.aggregate(own), len(own)) for own in (one, other)]
    low, high = stats.t.interval(0.95, 2, np.mean(one), stats.sem(one))
    assert (values[0].mean - values[0].half, values[0].mean + values[0].half) == pytest.approx((low, high))
    found = stored.difference(*values)
    expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((expected.low, expected.high))
    assert stored.verdict(found) == "seen"
    assert stored.verdict(stored.difference(*values[::-1])) == "the opposite"
    assert stored.verdict(stored.Value(0.1, 0.2, 3)) == "undecided"
    assert stored.verdict(None) == "not measured"
    assert results.aggregate([[True, 0.5], [False, 0.7]])[0][0] == 0.5


def test_a_run_is_flat_by_its_last_quarter(zoo):
    curve = [[100 * i, accuracy, 0.0] for i, accuracy in enumerate((0.1, 0.5, 0.7, 0.8, 0.84, 0.86, 0.87, 0.871), 1)]
    assert zoo("results").gained(curve) == pytest.approx(0.011)


def test_runs_are_made_once_and_collected(zoo, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(zoo("experiments"), "QUICK", tiny)
    folder, output, bundle = tmp_path / "runs", tmp_path / "out", tmp_path / "bundle.json"
    options = ["--quick", "--only", "width", "chance", "--models", "CRATE", "masks at random", "--folder", folder]
    words = ["zoo.py", *map(str, (*options, "--output", output, "--bundle", bundle))]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(ROOT / "benchmarks" / "zoo.py"), run_name="__main__")
    assert "FAULT" not in capsys.readouterr().out
    content = json.loads((output / "results.json").read_text())
    rows = {row["group"]: row for row in content["rows"]}
    values = rows["width"]["values"]
    assert values["train steps"] == [8, None]
    assert len(values["trained layers coding_rate"]) == len(values["untrained emergence mass best_head"]) == 2
    assert 0 <= values["trained robustness occlusion 5"][0] <= 1
    assert 0 < rows["chance"]["values"]["whole_image"][0] < 1
    assert content["choices"][0]["chosen"]["learning_rate"] == 0.002
    assert content["about"]["versions"][0]["torch"] == torch.__version__

    keys = {file.stem for file in (folder / "cache-quick").glob("*.json")}
    assert len(keys) == 3
    assert set(json.loads(bundle.read_text())) == keys
    script = runpy.run_path(str(ROOT / "benchmarks" / "zoo.py"))
    cache = script["Cache"](folder / "cache-quick")
    plan = zoo("experiments").Experiments(tiny)
    assert script["Plan"](plan, cache, ["width", "chance"], ["CRATE", "masks at random"]).take() is None
    assert script["Plan"](plan, cache, ["width"], ["AoT"]).take().model == "AoT"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_is_stored(zoo, page):
    """Tables are made of the stored results alone; text beside them names no measured number."""
    pages, stored = zoo("pages"), zoo("stored").Stored.read()
    text = page.read_text("utf-8")
    assert pages.filled(text, stored) == text
    if page.name == "findings.md":
        beside = re.sub(r"<!-- stored: .*?<!-- end -->", "", text, flags=re.DOTALL)
        assert re.findall(r"\d+\.\d+", re.sub(r"arXiv\s\S+|`[^`]+`|\(http\S+\)", "", beside)) == []


def test_stored_recipes_can_be_run_again(zoo):
    stored = zoo("stored").Stored.read()
    rows = [row for group in ("width", "parameters", "time") for row in stored.rows(group)]
    assert len(rows) >= 16
    for row in rows[:2]:
        assert recipe_of(row["recipe"]).to_dict() == row["recipe"]
    assert {len(row["seeds"]) for row in stored.rows("width", "fashion")} == {3}
    assert {tuple(row["diverged"]) for row in rows} == {()}
