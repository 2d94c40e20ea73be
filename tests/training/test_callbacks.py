"""What a run says while it goes on."""

import time
from types import SimpleNamespace

import torch
from small_runs import SMALL, command, run_command

from crate_transformers.training.callbacks import NoticeCrowding, ProgressLine

STATE = {"is_world_process_zero": True, "max_steps": 80}


def state(step):
    return SimpleNamespace(**STATE, global_step=step)


def test_steps_and_the_time_that_is_left_where_no_bar_can_be_drawn():
    lines = []
    progress = ProgressLine(lines.append, every=0.0)
    progress.on_train_begin(None, state(20), None)
    progress.started = (time.monotonic() - 30.0, 20)  # 20 steps in 30 seconds
    progress.on_log(None, state(40), None, logs={"loss": 0.51234})
    progress.on_step_end(None, state(40), None)
    assert lines == ["step 40 of 80, loss 0.5123, 0:01:00 left"]
    progress.every = 1000.0
    progress.on_step_end(None, state(41), None)
    assert len(lines) == 1  # not yet
    progress.on_step_end(None, state(80), None)
    progress.on_step_end(None, state(80), None)
    assert len(lines) == 2  # the last step, once
    assert lines[1].startswith("step 80 of 80")


def test_a_run_in_a_pipe(tmp_path):
    done = run_command(command(tmp_path / "run", settings={**SMALL, "train.max_steps": 4}))
    assert done.returncode == 0, done.stderr
    assert "step 4 of 4, " in done.stdout
    assert done.stderr == ""


def crowding(monkeypatch, share, threads=2, waited=0.0, device="cpu"):
    """What is said where a process of so many threads gets this share of their time."""
    clock, lines = [0.0], []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("crate_transformers.training.callbacks.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(
        "crate_transformers.training.callbacks.time.process_time", lambda: (clock[0] - waited) * share * threads
    )
    notice = NoticeCrowding(lambda: waited if clock[0] else 0.0, lines.append)
    notice.on_train_begin(SimpleNamespace(device=torch.device(device)), state(0), None)
    for step in range(1, 9):
        clock[0] += 10.0
        notice.on_step_end(None, state(step), None)
    return lines


def test_other_work_on_the_machine_is_noticed_once(monkeypatch):
    (line,) = crowding(monkeypatch, share=0.3)
    assert line.startswith("this run gets 30% of the time of its 2 threads")
    assert "OMP_NUM_THREADS=1" in line
    assert crowding(monkeypatch, share=0.95) == []
    assert crowding(monkeypatch, share=0.3, threads=1) == []
    assert crowding(monkeypatch, share=0.3, device="meta") == []
    assert crowding(monkeypatch, share=0.95, waited=8.0) == []  # waiting for data is no crowd
