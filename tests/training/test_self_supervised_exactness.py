"""Killed and resumed, or on two processes: the same weights, the teacher's included."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from small_runs import DINO, MAE, command_settings, largest_gap, recipe, run_command

from crate_transformers.evaluation.run_folder import checkpoints_in
from crate_transformers.training import train

LAUNCHED = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def command(base, output, *arguments, **settings):
    name, *sets = command_settings(base, **settings)
    return [sys.executable, "-m", "crate_transformers", "train", name, "--output", str(output), *sets, *arguments]


@pytest.fixture(autouse=True)
def one_thread():
    """As the commands run: with another number of threads, sums are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def last_checkpoint(folder):
    return load_file(checkpoints_in(folder / "checkpoints")[-1] / "model.safetensors")


@pytest.mark.parametrize("base", [MAE, DINO], ids=["mae", "dino"])
def test_sigkill_and_resume(tmp_path, base):
    options = {"train__eval_steps": 4, "train__max_steps": 8}
    train(recipe(base, **options), tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(base, killed, **options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(killed.glob("checkpoints/checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "metrics.json").exists()
    assert train(recipe(base, **options), killed, resume=True).status == "finished"
    assert largest_gap(tmp_path / "whole", killed) <= 1e-6
    whole, again = last_checkpoint(tmp_path / "whole"), last_checkpoint(killed)
    assert whole.keys() == again.keys()
    for name, tensor in whole.items():
        assert torch.allclose(tensor, again[name], atol=1e-6), name
    if base is DINO:
        teachers = [name for name in whole if name.startswith("teacher_backbone")]
        assert teachers
        assert any(not torch.equal(whole[name], whole[name.replace("teacher", "student")]) for name in teachers)
        assert "criterion.center" in whole


BY_PROCESS = {"train__head_batch_norm": False}  # its statistics are those of a process's own batch
CODING_RATE = {**BY_PROCESS, "train__self_distillation_loss": "coding_rate"}


@pytest.mark.parametrize(
    ("base", "own"), [(MAE, {}), (DINO, BY_PROCESS), (DINO, CODING_RATE)], ids=["mae", "dino", "coding rate"]
)
def test_two_processes_equal_one(tmp_path, base, own):
    """Without looking for unused parameters: a parameter without a gradient would end the second step."""
    options = {"train__max_steps": 4, "train__eval_steps": 4, "train__freeze_last_layer_epochs": 0.0, **own}
    batch = base[1]["train.per_device_train_batch_size"]
    train(recipe(base, **options), tmp_path / "one")
    half = command(base, tmp_path / "two", **options, train__per_device_train_batch_size=batch // 2)
    two = run_command([*LAUNCHED, *half[1:]])
    assert two.returncode == 0, two.stderr
    assert "find_unused_parameters" not in two.stderr
    assert largest_gap(tmp_path / "one", tmp_path / "two") <= 2e-5
