"""What a run says while it goes on."""

import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from small_runs import SMALL, command, run_command

from crate_transformers.errors import UserError
from crate_transformers.training.average import Ema
from crate_transformers.training.callbacks import NoticeCrowding, ProgressLine
from crate_transformers.training.stored import AVERAGE, EMA_FILE, read_into

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


def with_statistics(seed):
    """A linear map and a BatchNorm that has seen one batch."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    model(torch.randn(7, 3))
    return model


def test_the_average_is_of_the_running_statistics_too(tmp_path):
    """As in timm: buffers of floats are averaged with the parameters, counts are the latest."""
    model = with_statistics(0)
    ema = Ema(0.9)
    ema.on_step_end(None, None, None, model=model)
    expected = {name: tensor.double().clone() for name, tensor in model.state_dict().items()}
    for _ in range(3):
        model(torch.randn(7, 3))
        with torch.no_grad():
            model[0].weight += 1.0
        ema.on_step_end(None, None, None, model=model)
        expected = {name: 0.9 * old + 0.1 * model.state_dict()[name] for name, old in expected.items()}
    expected["1.num_batches_tracked"] = torch.tensor(4)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with ema.swapped_into(model):
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor.double(), expected[name].double())
        assert not torch.equal(model[1].running_mean, own["1.running_mean"])
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())
    save_file(ema.state(model), tmp_path / EMA_FILE)
    again = Ema(0.9)
    again.restore(with_statistics(1), partial(read_into, tmp_path, AVERAGE))
    again.keep_in(model)
    assert again.steps == 4
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name].double())


def test_an_average_without_the_statistics_is_refused(tmp_path):
    """Checkpoints of earlier versions hold parameters alone."""
    ema, model = Ema(0.9), with_statistics(0)
    tensors = {name: tensor for name, tensor in ema.state(model).items() if "running" not in name}
    save_file(tensors, tmp_path / EMA_FILE)
    with pytest.raises(UserError, match=r"no average of 1.running_mean: an earlier version wrote it"):
        ema.restore(model, partial(read_into, tmp_path, AVERAGE))
