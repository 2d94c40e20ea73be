"""Small runs that the tests of training share."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from crate_transformers.training import load_recipe, train

SMALL = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "train.num_train_epochs": 2,
    "train.per_device_train_batch_size": 128,
    "train.warmup_epochs": 0.5,
    "train.logging_steps": 5,
    "train.eval_steps": 5,
}


def small_recipe(**settings):
    return load_recipe("digits", {**SMALL, **{key.replace("__", "."): value for key, value in settings.items()}})


def small_run(output, **settings):
    return train(small_recipe(**settings), output)


def command(output, *arguments, settings=SMALL):
    """The same run as a command line."""
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "crate_transformers", "train", "--output", str(output), *sets, *arguments]


# one thread: the same rounding in every process
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run_command(arguments):
    return subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def start_command(arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, env=ENVIRONMENT, **pipes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def largest_gap(a: Path, b: Path) -> float:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)
