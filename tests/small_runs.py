"""Short runs of small models that the tests of training share: their settings, their commands, what they wrote."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from crate_transformers.training import load_recipe, train

_LAYERS = {"model.hidden_size": 24, "model.num_hidden_layers": 2, "model.num_attention_heads": 3}
SMALL = {  # of the recipe "digits"
    **_LAYERS,
    "train.num_train_epochs": 2,
    "train.per_device_train_batch_size": 128,
    "train.warmup_epochs": 0.5,
    "train.logging_steps": 5,
    "train.eval_steps": 5,
}

# runs without labels: a shipped recipe's name and what is set in it
MAE = (
    "mae-digits",
    {
        **_LAYERS,
        "train.logging_steps": 5,
        "model.decoder_num_hidden_layers": 2,
        "model.decoder_num_attention_heads": 2,
        "train.per_device_train_batch_size": 64,
        "train.max_steps": 12,
        "train.eval_steps": 20,
        "train.learning_rate": 0.005,
        "train.warmup_epochs": 0.1,
    },
)
DINO = (
    "dino-digits",
    {
        **_LAYERS,
        "train.logging_steps": 5,
        "data.local_crops": 1,
        "train.per_device_train_batch_size": 32,
        "train.max_steps": 12,
        "train.eval_steps": 6,
        "train.prototypes": 37,
        "train.head_hidden_size": 29,
        "train.head_bottleneck_size": 16,
        "train.freeze_last_layer_epochs": 0.1,
        "train.warmup_epochs": 0.1,
    },
)


def _merged(common, settings):
    return {**common, **{key.replace("__", "."): value for key, value in settings.items()}}


def _as_options(settings):
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def recipe(base, **settings):
    """MAE or DINO, with train__max_steps=3 for train.max_steps."""
    name, common = base
    return load_recipe(name, _merged(common, settings))


def command_settings(base, **settings):
    """The same as arguments of `crate train`."""
    name, common = base
    return [name, *_as_options(_merged(common, settings))]


def small_recipe(**settings):
    return recipe(("digits", SMALL), **settings)


def small_run(output, **settings):
    return train(small_recipe(**settings), output)


def command(output, *arguments, settings=SMALL):
    """The same run as a command line."""
    start = [sys.executable, "-m", "crate_transformers", "train", "--output", str(output)]
    return [*start, *_as_options(settings), *arguments]


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
