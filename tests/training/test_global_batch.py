"""`train.global_batch_size`: one number for any processes; the batch of a process and the accumulation follow."""

import json
import os
import shutil
import signal
import sys

import pytest
from small_runs import SMALL, command, largest_gap, run_command, small_run

from crate_transformers.errors import UserError
from crate_transformers.training import load_recipe
from crate_transformers.training.arguments import divided_batch

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.mark.parametrize(
    ("together", "processes", "most", "parts"),
    [
        (64, 1, None, (64, 1)),
        (64, 2, 16, (16, 2)),
        (2048, 16, 128, (128, 1)),
        (2048, 16, 100, (64, 2)),
        (96, 1, 64, (48, 2)),
    ],
)
def test_division(together, processes, most, parts):
    assert divided_batch(together, processes, most) == parts
    assert parts[0] * parts[1] * processes == together


@pytest.mark.parametrize(
    ("together", "processes", "most", "near"),
    [(64, 3, None, "63 or 66"), (127, 1, 64, "126 or 128"), (2, 4, None, "4"), (402, 2, 64, "400 or 408")],
)
def test_what_cannot_be_divided_names_what_can(together, processes, most, near):
    with pytest.raises(UserError, match=f"global_batch_size = {together} cannot be divided .*: {near} can be"):
        divided_batch(together, processes, most)


def test_two_ways_of_saying_it_are_refused():
    both = {"train.global_batch_size": 64, "train.per_device_train_batch_size": 8}
    with pytest.raises(UserError, match=r"global_batch_size decides train\.per_device_train_batch_size"):
        load_recipe("digits", both)
    with pytest.raises(UserError, match=r"max_per_device_batch_size is of train\.global_batch_size"):
        load_recipe("digits", {"train.max_per_device_batch_size": 8})
    recipe = load_recipe("digits", {"train.global_batch_size": 64})  # in place of what the file says
    assert "per_device_train_batch_size" not in recipe.arguments


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "meets a damaged picture"])
def test_a_worker_that_fails_is_told_in_one_line(killed, tmp_path, monkeypatch):
    def fail(self, key):
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("picture.png is truncated")

    monkeypatch.setattr("crate_transformers.data.KeyedImages.__getitem__", fail)
    words = r"a process that prepares the data was killed \(.*--resume" if killed else r"^picture\.png is truncated$"
    with pytest.raises(UserError, match=words):
        small_run(tmp_path, train__dataloader_num_workers=1, train__eval_strategy="no", train__measure_every=0)


def test_a_run_of_one_process_is_resumed_by_two(tmp_path):
    settings = {name: value for name, value in SMALL.items() if name != "train.per_device_train_batch_size"}
    settings |= {
        "train.global_batch_size": 60,
        "train.max_per_device_batch_size": 20,
        "train.max_steps": 26,  # of 21 in an epoch: the resumed run ends one and begins another
        "train.eval_steps": 13,
        "data.repeated_augmentation": 2,
    }
    own = {key.replace(".", "__"): value for key, value in settings.items()}
    del SMALL["train.per_device_train_batch_size"]
    try:
        small_run(tmp_path / "one", **own)
    finally:
        SMALL["train.per_device_train_batch_size"] = 128
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    for name in ("report.html", "metrics.json", "model.safetensors"):
        (tmp_path / "two" / name).unlink()
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "checkpoint-26")
    line = command(tmp_path / "two", "--resume", "--set", "train.dataloader_num_workers=1", settings=settings)
    two = run_command([*LAUNCHER, *line[1:]])
    assert two.returncode == 0, two.stderr
    assert "a step takes 60 samples: 2 processes, 15 at a time, 2 times" in two.stdout
    assert "continuing from checkpoint-13" in two.stdout
    assert largest_gap(tmp_path / "one", tmp_path / "two") <= 1e-5
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["train"]["steps"] == 26
    assert metrics["train"]["order"] == "exact"
