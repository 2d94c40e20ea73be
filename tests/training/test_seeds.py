"""Runs of several seeds: a folder each, resumed as a whole, summarised."""

import json

import numpy as np
import pytest
from scipy import stats
from small_runs import SMALL
from typer.testing import CliRunner

from crate_transformers.cli.app import app
from crate_transformers.training import load_recipe, train, train_seeds
from crate_transformers.training.seeds import summarise

SHORT = {**SMALL, "train.max_steps": 4, "train.eval_steps": 4, "train.warmup_epochs": 0.1}


def recipe(seed):
    return load_recipe("digits", {**SHORT, "train.seed": seed})


def crate(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def test_three_seeds(tmp_path):
    settings = [part for key, value in SHORT.items() for part in ("--set", f"{key}={value}")]
    arguments = ("train", "digits", "--output", tmp_path / "runs", "--seeds", 3, *settings)
    code, output = crate(*arguments)
    assert code == 0, output
    content = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    own = [json.loads((tmp_path / "runs" / f"seed-{seed}" / "metrics.json").read_text()) for seed in range(3)]
    values = [metrics["test"]["accuracy"] for metrics in own]
    row = content["metrics"]["test"]["accuracy"]
    assert row["values"] == values
    assert len({metrics["test"]["loss"] for metrics in own}) == 3  # the seeds differ
    assert (content["seeds"], content["folders"]) == ([0, 1, 2], ["seed-0", "seed-1", "seed-2"])
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    assert f"test accuracy over 3 training seeds: {np.mean(values):.4f}, +- {half:.4f} (95 % by t)" in output
    single = train(recipe(1), tmp_path / "single")
    assert single.metrics["test"]["loss"] == pytest.approx(own[1]["test"]["loss"], abs=1e-6)

    code, output = crate(*arguments)  # again, without --resume
    assert code != 0
    assert "pass --resume to continue or --overwrite" in output
    before = (tmp_path / "runs" / "seed-0" / "report.html").stat().st_mtime_ns
    (tmp_path / "runs" / "seed-2" / "report.html").unlink()  # as if it had been cut off
    (tmp_path / "runs" / "seeds.json").unlink()
    code, output = crate(*arguments, "--resume")
    assert code == 0, output
    assert (tmp_path / "runs" / "seed-0" / "report.html").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "runs" / "seeds.json").read_text())["metrics"]["test"] == content["metrics"]["test"]


def test_a_summary_by_hand():
    runs = [{"test": {"accuracy": value, "images": 5}, "train": {"seconds": 1.0}} for value in (0.5, 0.6, 0.7)]
    summary = summarise(runs)
    assert summary == {
        "test": {
            "accuracy": {
                "mean": pytest.approx(0.6),
                "standard_deviation": pytest.approx(0.1),
                "interval_95": pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4),
                "values": [0.5, 0.6, 0.7],
            }
        }
    }
    assert summarise(runs[:1])["test"]["accuracy"]["interval_95"] is None


def test_refuses(tmp_path):
    for arguments, message in (
        (("--seeds", 2, "--set", "train.seed=1"), "leave --set train.seed out"),
        (("--seeds", 0), "--seeds"),
    ):
        code, output = crate("train", "digits", "--output", tmp_path / "x", *arguments)
        assert code != 0
        assert message in output
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(recipe(0).to_yaml())
    with pytest.raises(ValueError, match="holds a run of one seed"):
        train_seeds(recipe, 2, tmp_path / "run")
