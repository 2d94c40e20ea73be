"""Runs that are killed, moved, damaged, started twice or given other processes: the same end, or a line that says why.

The runs here are small; each test compares with one that was never stopped.
"""

import json
import os
import shutil
import socket
import stat
import sys
import time

import pytest
import torch
from accelerate import PartialState
from data_folders import two_classes
from PIL import Image
from small_runs import SMALL, command, largest_gap, run_command, small_recipe, start_command

from crate_transformers.evaluation.run_folder import checkpoints_in
from crate_transformers.lock import LOCK_FILE, locked
from crate_transformers.training import assembly, load_recipe, train
from crate_transformers.training.tasks import task_of
from crate_transformers.training.trainer import CrateTrainer

TIMES = ("seconds", "samples_per_second", "data_wait_fraction", "checkpoint_wait_seconds")
SETTINGS = {"train.save_total_limit": 4, "train.num_train_epochs": 4, "train.ema_decay": 0.9}
KILLED_AT = 18


class Killed(BaseException):
    pass


def recipe(**settings):
    return load_recipe("digits", {**SMALL, **SETTINGS, **settings})


def kill_at(monkeypatch, step):
    """The run ends within this step, as it would be killed: nothing is saved, nothing is said."""
    train_step = CrateTrainer.training_step

    def killed(self, *args, **kwargs):
        if self.state.global_step + 1 == step:
            raise Killed
        return train_step(self, *args, **kwargs)

    monkeypatch.setattr(CrateTrainer, "training_step", killed)


def figures(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        part: {name: value for name, value in values.items() if name not in TIMES} for part, values in metrics.items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    train(recipe(), folder)
    return folder


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, KILLED_AT)
        with pytest.raises(Killed):
            train(recipe(), folder)
    return folder


@pytest.fixture
def killed(killed_once, tmp_path):
    return shutil.copytree(killed_once, tmp_path / "run")


def continued(folder):
    lines = []
    train(recipe(), folder, resume=True, on_note=lines.append)
    return lines


def test_every_figure_is_of_the_whole_run(whole, killed):
    assert not (killed / LOCK_FILE).exists()
    lines = continued(killed)
    assert any("continuing from checkpoint-15" in line for line in lines)
    assert figures(killed) == figures(whole)
    assert figures(whole)["train"]["loss"] > 0
    assert largest_gap(whole, killed) == 0


def test_killed_between_the_last_step_and_its_metrics(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("crate_transformers.training.run.measure_run", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train(recipe(), folder)
    continued(folder)
    assert figures(folder) == figures(whole)
    assert largest_gap(whole, folder) == 0


def test_a_moved_folder_named_from_another_place(whole, killed, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    killed.rename(tmp_path / "elsewhere" / "moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    continued(type(tmp_path)("moved"))
    assert figures(tmp_path / "elsewhere" / "moved") == figures(whole)
    assert largest_gap(whole, tmp_path / "elsewhere" / "moved") == 0


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 16
    path.write_bytes(content)


DAMAGES = {
    "optimizer.pt is missing": lambda folder: (folder / "optimizer.pt").unlink(),
    "model.safetensors holds other bytes": lambda folder: flip(folder / "model.safetensors"),
    "ema.safetensors holds other bytes": lambda folder: flip(folder / "ema.safetensors", 0.9),
    "rng_state.pth has 100 of": lambda folder: (folder / "rng_state.pth").write_bytes(b"x" * 100),
    "scheduler.pt has 0 of": lambda folder: (folder / "scheduler.pt").write_bytes(b""),
    "trainer_state.json holds other bytes": lambda folder: flip(folder / "trainer_state.json"),
    "checkpoint.json is missing": lambda folder: (folder / "checkpoint.json").unlink(),
    "checkpoint.json is damaged": lambda folder: (folder / "checkpoint.json").write_text("{"),
    "checkpoint.json is damage": lambda folder: (folder / "checkpoint.json").write_text(
        (folder / "checkpoint.json").read_text().replace('"loss_sum": ', '"loss_sum": 1')
    ),
}


@pytest.mark.parametrize("told", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(whole, killed, told):
    *_, before, last = checkpoints_in(killed / "checkpoints")
    DAMAGES[told](last)
    lines = continued(killed)
    assert any(last.name in line and told in line for line in lines)
    assert any(f"continuing from {before.name}" in line for line in lines)
    assert figures(killed) == figures(whole)
    assert largest_gap(whole, killed) == 0


def test_no_whole_checkpoint_is_left(killed):
    for folder in checkpoints_in(killed / "checkpoints"):
        (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint in .* is whole: start the run again with --overwrite"):
        continued(killed)


def test_a_best_checkpoint_that_was_damaged(whole, killed):
    """A run that goes on from a later one would end with another model."""
    first, *_ = folders = checkpoints_in(killed / "checkpoints")
    for folder in folders:
        state = json.loads((folder / "trainer_state.json").read_text())
        if state["best_global_step"] not in (None, state["global_step"]):
            break
    else:  # every checkpoint was the best: the last one is
        flip(folders[-1] / "model.safetensors")
        assert any("is not whole" in line for line in continued(killed))
        assert largest_gap(whole, killed) == 0
        return
    flip(first.parent / f"checkpoint-{state['best_global_step']}" / "model.safetensors")
    lines = continued(killed)
    assert any("the best so far" in line for line in lines)
    assert largest_gap(whole, killed) == 0


def test_two_runs_in_one_folder(tmp_path):
    process = start_command(command(tmp_path / "run", settings={**SMALL, "train.num_train_epochs": 500}))
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("run/checkpoints/checkpoint-*")) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(ValueError, match=rf"a run is going on in .*\(process {process.pid} on "):
                train(small_recipe(), tmp_path / "run", **options)
        assert list(tmp_path.glob("run/checkpoints/checkpoint-*"))
    finally:
        process.kill()
        process.communicate()
    train(small_recipe(), tmp_path / "run", overwrite=True)  # the killed one holds nothing any more
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_a_run_on_another_host(tmp_path):
    lock = tmp_path / LOCK_FILE
    lock.write_text(json.dumps({"host": "another", "process": 7}))
    with pytest.raises(ValueError, match="process 7 on another"), locked(tmp_path):
        pass
    os.utime(lock, (time.time() - 3600,) * 2)  # silent for an hour
    with locked(tmp_path):
        assert json.loads(lock.read_text())["host"] == socket.gethostname()
        before = lock.stat().st_mtime_ns
        time.sleep(0.05)
    assert before > (time.time() - 60) * 1e9
    assert not lock.exists()


def launched(folder, processes, batch, *arguments):
    settings = {**SMALL, **SETTINGS, "train.per_device_train_batch_size": batch}
    line = command(folder, *arguments, settings=settings)
    if processes > 1:
        line = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            *line[1:],
        ]
    return line


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_another_number_of_processes_goes_on_to_the_same_end(whole, tmp_path, first, then):
    folder, batch = tmp_path / "run", 128 // first
    process = start_command(launched(folder, first, batch))
    deadline = time.monotonic() + 200
    while not list(folder.glob("checkpoints/checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.kill() if first == 1 else process.terminate()
    process.communicate()
    assert not (folder / "metrics.json").exists()
    again = run_command(launched(folder, then, batch, "--resume"))
    assert again.returncode == 0, again.stderr
    assert f"each takes {128 // then} samples, so that a step sees the same 128" in again.stdout
    assert json.loads((folder / "metrics.json").read_text())["train"]["steps"] == figures(whole)["train"]["steps"]
    assert largest_gap(whole, folder) <= 1e-5


def test_a_batch_that_cannot_be_divided_among_the_processes(killed, monkeypatch):
    monkeypatch.setitem(PartialState._shared_state, "num_processes", 3)
    with pytest.raises(ValueError, match="128 cannot be divided among 3"):
        continued(killed)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_sums_of_three_are_taken_in_one_order(processes, tmp_path, monkeypatch):
    """DDP divides the gradients anew after its first step, also of a resumed run, unless it looks for unused ones."""
    own = recipe(**{"train.per_device_train_batch_size": 32})
    task = task_of(own, tmp_path)
    monkeypatch.setitem(PartialState._shared_state, "num_processes", processes)
    arguments, _ = assembly._arguments(own, task, tmp_path, 32, 1)
    assert arguments.ddp_find_unused_parameters == (processes > 2)


def test_a_run_does_not_go_on_with_fewer_pictures(tmp_path, monkeypatch):
    own = {
        "data.source": two_classes(tmp_path / "data"),
        "train.per_device_train_batch_size": 4,
        "train.max_steps": 6,
        "train.eval_steps": 2,
    }
    with monkeypatch.context() as patch:
        kill_at(patch, 4)
        with pytest.raises(Killed):
            train(recipe(**own), tmp_path / "run")
    (tmp_path / "data" / "ant" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"started on 18 training samples, now there are 17: put the data back"):
        train(recipe(**own), tmp_path / "run", resume=True)


def test_a_full_disk(killed, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(ValueError, match=r"the checkpoint of step 20 could not be written.*make room.*--resume"):
        continued(killed)
    assert not list(killed.glob("checkpoints/.saving*"))


def test_others_may_read_what_a_run_wrote(whole):
    umask = os.umask(0)
    os.umask(umask)
    for path in whole.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path.name


def test_damaged_metrics(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "metrics.json").write_text('{"train"')
    with pytest.raises(ValueError, match=r"metrics\.json is damaged: delete it"):
        continued(folder)
    (folder / "metrics.json").unlink()
    continued(folder)
    assert figures(folder) == figures(whole)


def test_a_report_that_fails_is_told_and_fails_nothing(tmp_path, monkeypatch):
    def fails(*_):
        assert (tmp_path / "run" / "metrics.json").is_file()
        assert (tmp_path / "run" / "model.safetensors").is_file()
        raise RuntimeError("no ink")

    monkeypatch.setattr("crate_transformers.training.run_report.curves_charts", fails)
    lines = []
    result = train(small_recipe(train__max_steps=4), tmp_path / "run", on_note=lines.append)
    assert result.status == "finished"
    assert any("the report could not be drawn (RuntimeError: no ink)" in line for line in lines)
    assert "no ink" in (tmp_path / "run" / "report.html").read_text()


def test_class_names_are_drawn_as_they_are(tmp_path):
    for name, level in (("$a_{b", 60), ("a$b$c^", 180)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (8, 8), (level + i,) * 3).save(tmp_path / "data" / name / f"{i}.png")
    lines = []
    settings = {"data__source": f"imagefolder:{tmp_path / 'data'}", "train__max_steps": 4}
    train(small_recipe(**settings, train__per_device_train_batch_size=8), tmp_path / "run", on_note=lines.append)
    assert not any("could not be drawn" in line for line in lines)
    assert "Confusion matrix" in (tmp_path / "run" / "report.html").read_text()
