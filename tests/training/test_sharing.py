"""Weights that processes share (FSDP2), checkpoints in shards, and the ways between them and whole ones."""

import errno
import json
import os
import shutil
import signal
import sys
import threading
import time

import pytest
import torch
import torch.distributed.checkpoint as dcp
from small_runs import SMALL, command, largest_gap, run_command, start_command

from crate_transformers.errors import UserError
from crate_transformers.evaluation.opening import open_model
from crate_transformers.evaluation.run_folder import checkpoints_in
from crate_transformers.lock import LOCK_FILE
from crate_transformers.training import checkpointer, load_recipe, train
from crate_transformers.training.consolidation import consolidate
from crate_transformers.training.trainer import CrateTrainer

# a stem with BatchNorms, an average of the weights, an evaluation and a checkpoint every 4 steps; few steps, for what
# rounding changes grows with them (benchmarks/topologies.py)
SETTINGS = {
    **SMALL,
    "model.patch_embedding": "conv_stem",
    "model.image_size": 16,
    "model.patch_size": 8,
    "train.ema_decay": 0.9,
    "train.max_steps": 12,
    "train.eval_steps": 4,
    "train.save_total_limit": 9,
}
SHARDED = {"train.checkpoint_form": "sharded"}


def recipe(**more):
    return load_recipe("digits", {**SETTINGS, **more})


def launched(folder, *arguments, processes=2, **more):
    settings = {**SETTINGS, "train.per_device_train_batch_size": 128 // processes, **more}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [*start, *command(folder, *arguments, settings=settings)[1:]]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(recipe(), folder)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run of two processes that share their weights, of which one was killed after the first checkpoint."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = start_command(launched(folder, **{"train.fsdp": True}))
    while not checkpoints_in(folder / "checkpoints"):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.kill(json.loads((folder / LOCK_FILE).read_text())["process"], signal.SIGKILL)
    process.communicate(timeout=60)  # the launcher ends the other one
    assert process.returncode != 0
    for checkpoint in checkpoints_in(folder / "checkpoints")[1:]:
        shutil.rmtree(checkpoint)
    return folder


def test_a_killed_run_of_shared_weights_goes_on_in_whole_ones(whole, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "run")
    again = run_command(launched(folder, "--resume"))  # DDP, from the shards
    assert again.returncode == 0, again.stderr
    assert "continuing from checkpoint-4" in again.stdout
    assert largest_gap(whole, folder) <= 1e-5
    assert not (checkpoints_in(folder / "checkpoints")[-1] / "shards").exists()


def test_one_process_goes_on_from_the_shards_of_two(whole, killed, tmp_path):
    folder, said = shutil.copytree(killed, tmp_path / "run"), []
    settings = {"train.per_device_train_batch_size": 64, "train.checkpoint_in_background": False}
    result = train(recipe(**settings), folder, resume=True, on_note=said.append)
    assert result.status == "finished"
    assert any("started with 2 processes" in line for line in said)
    assert largest_gap(whole, folder) <= 1e-5


def test_shards_become_the_folder_that_a_run_leaves(whole, killed, tmp_path):
    made = consolidate(killed, tmp_path / "made")
    same = consolidate(whole / "checkpoints" / "checkpoint-4", tmp_path / "same")
    assert (made.step, made.kind, made.of_average) == (4, "CrateForImageClassification", True)
    assert largest_gap(made.folder, same.folder) <= 1e-6
    beside = {path.name for path in whole.iterdir() if path.is_file()}
    of_the_end = {"metrics.json", "report.html", "layers.csv"}
    assert {path.name for path in made.folder.iterdir()} == beside - of_the_end
    configs = [open_model(folder).config.to_dict() for folder in (made.folder, whole)]
    assert {**configs[0], "_name_or_path": ""} == {**configs[1], "_name_or_path": ""}
    with pytest.raises(UserError, match="is there already"):
        consolidate(killed, made.folder)


def test_a_missing_shard_is_told_and_the_checkpoint_before_is_taken(whole, tmp_path):
    folder, said = tmp_path / "run", []
    train(recipe(**SHARDED), folder)
    assert largest_gap(whole, folder) == 0  # the form of the checkpoints changes no number
    *_, before, last = checkpoints_in(folder / "checkpoints")
    assert largest_gap(consolidate(last, tmp_path / "made").folder, _consolidated(whole, last.name, tmp_path)) == 0
    (folder / "metrics.json").unlink()
    next((last / "shards").glob("*.distcp")).unlink()
    with pytest.raises(UserError, match=r"is not whole: shards/__0_0.distcp is missing"):
        consolidate(last, tmp_path / "other")
    train(recipe(**SHARDED), folder, resume=True, on_note=said.append)
    assert any(line.startswith(f"{last.name} is not whole (shards/__0_0.distcp is missing)") for line in said)
    assert f"continuing from {before.name}" in said
    assert largest_gap(whole, folder) == 0


def _consolidated(run, name, tmp_path):
    return consolidate(run / "checkpoints" / name, tmp_path / f"whole-{name}").folder


@pytest.mark.parametrize("form", ["gathered", "sharded"])
def test_a_full_disk_is_told_by_the_next_save(tmp_path, monkeypatch, form):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = (dcp.FileSystemWriter, "write_data") if form == "sharded" else (checkpointer, "save_file")
    monkeypatch.setattr(*target, full)
    with pytest.raises(UserError, match=r"checkpoint of step 4 could not be written.*No space left.*make room"):
        train(recipe(**{"train.checkpoint_form": form}), tmp_path / "other")
    assert not list((tmp_path / "other" / "checkpoints").iterdir())


class Killed(BaseException):
    pass


def test_killed_while_a_checkpoint_is_written(whole, tmp_path, monkeypatch):
    """Steps go on meanwhile; what was not sealed is no checkpoint, and the run ends as if it had not been stopped."""
    folder, steps, publish = tmp_path / "run", [], checkpointer.Checkpointer._publish
    train_step, is_dead = CrateTrainer.training_step, threading.Event()

    def never(self, staged, snapshot):
        if staged.name != "checkpoint-8":
            return publish(self, staged, snapshot)
        is_dead.wait(60)
        raise Killed

    def step(self, *args, **kwargs):
        steps.append(self.state.global_step)
        if self.state.global_step == 11:
            raise Killed
        return train_step(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(checkpointer.Checkpointer, "_publish", never)
        patched.setattr(CrateTrainer, "training_step", step)
        with pytest.raises(Killed):
            train(recipe(), folder)
    assert steps[-3:] == [9, 10, 11]  # after the step of the checkpoint that is still written
    assert [path.name for path in checkpoints_in(folder / "checkpoints")] == ["checkpoint-4"]
    assert (folder / "checkpoints" / checkpointer.STAGING / "checkpoint-8").is_dir()
    said = []
    train(recipe(), folder, resume=True, on_note=said.append)
    is_dead.set()
    assert "continuing from checkpoint-4" in said
    assert not (folder / "checkpoints" / checkpointer.STAGING).exists()
    assert largest_gap(whole, folder) == 0


def test_what_does_not_go_together_is_refused():
    for settings, told in (
        ({"train.fsdp": True, "train.fp16": True}, "take train.bf16"),
        ({"train.fsdp_config": {}}, "train.fsdp shares the weights"),
        ({"train.checkpoint_form": "whole"}, "gathered"),
    ):
        with pytest.raises(UserError, match=told):
            recipe(**settings)
