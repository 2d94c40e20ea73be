"""Killed and resumed, or on two processes: the same weights."""

import json
import signal
import sys
import time

import pytest
import torch
from small_runs import SMALL, command, largest_gap, run_command, start_command

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.data import EpochSampler, ImageCollator, KeyedImages, TrainingTransform, load_image_source
from crate_transformers.evaluation.evaluate import evaluate_model
from crate_transformers.models.image_processing import image_processor_of

CURVE = __file__.replace("test_exactness.py", "loss_curve.txt")


def test_sigkill_and_resume(tmp_path):
    whole = run_command(command(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    process = start_command(command(killed))
    deadline = time.monotonic() + 200
    while not list(killed.glob("checkpoints/checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "metrics.json").exists()
    again = run_command(command(killed, "--resume"))
    assert again.returncode == 0, again.stderr
    assert largest_gap(tmp_path / "whole", killed) == 0


# a stem of convolutions has BatchNorms, whose statistics are those of all processes
STEM = {"model.patch_embedding": "conv_stem", "model.image_size": 16, "model.patch_size": 8}


REPEATED = {"data.repeated_augmentation": 3}


@pytest.mark.parametrize("own", [{}, STEM, REPEATED], ids=["as it is", "with BatchNorm", "repeated augmentation"])
def test_two_processes_equal_one(own, tmp_path):
    settings = {**SMALL, "train.max_steps": 6, "train.mixup_alpha": 0.5, "data.crop": "pad", **own}
    one = run_command(command(tmp_path / "one", settings={**settings, "train.per_device_train_batch_size": 64}))
    assert one.returncode == 0, one.stderr
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    half = command(tmp_path / "two", settings={**settings, "train.per_device_train_batch_size": 32})
    two = run_command([*launched, *half[1:]])
    assert two.returncode == 0, two.stderr
    assert largest_gap(tmp_path / "one", tmp_path / "two") <= 1e-5
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for part in ("validation", "test"):  # neither has a whole number of batches
        assert two[part] == pytest.approx(one[part], abs=1e-5)
    assert two["test"]["loss"] == pytest.approx(evaluate_model(tmp_path / "two")["loss"], abs=1e-5)


def loss_curve():
    """20 steps in float64, where no processor's rounding reaches the digits that are kept."""
    torch.manual_seed(0)
    config = CrateVisionConfig(
        hidden_size=30, num_hidden_layers=2, num_attention_heads=5, image_size=8, patch_size=4, num_labels=10
    )
    model = CrateForImageClassification(config).double()
    processor = image_processor_of(config, center_crop=False)
    data = KeyedImages(load_image_source("digits").train, TrainingTransform(processor, "pad"), seed=0)
    loader = torch.utils.data.DataLoader(
        data, batch_size=32, sampler=EpochSampler(len(data), 0), collate_fn=ImageCollator(10, 0.5, 1.0, 0)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    for _, batch in zip(range(20), loader, strict=False):
        logits = model(batch["pixel_values"].double()).logits
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"].double())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield f"{loss.item():.6f}"


def test_loss_curve():
    """A change that should not change numbers does not."""
    with open(CURVE, encoding="utf-8") as file:
        assert list(loss_curve()) == file.read().split()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    settings = {**SMALL, "train.num_train_epochs": 500}
    process = start_command(command(tmp_path / "run", settings=settings))
    deadline = time.monotonic() + 200
    while not list((tmp_path / "run" / "checkpoints").glob("checkpoint-*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "continue with the same command and --resume" in errors
    assert list((tmp_path / "run" / "checkpoints").glob("checkpoint-*/model.safetensors"))
