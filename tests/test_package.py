"""What importing the package does, and does not do."""

import subprocess
import sys
from pathlib import Path

import pytest

import crate_transformers

MEASURE = """
import sys, time, torch, transformers
started = time.process_time()
import crate_transformers
seconds = time.process_time() - started
heavy = {"datasets", "torchvision", "matplotlib", "sklearn", "lightly", "timm", "peft"} & set(sys.modules)
assert not heavy, heavy
assert seconds < 0.5, seconds
from transformers import AutoConfig
assert AutoConfig.for_model("crate_vision", hidden_size=12, num_attention_heads=3).head_dim == 4
"""


def test_import_is_light_and_registers():
    process = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", crate_transformers.__all__)
def test_public_names_exist(name):
    assert getattr(crate_transformers, name) is not None


def test_floors():
    # a process of its own: the linter's logging set-up would silence this one's loggers
    call = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    root = Path(__file__).parents[1]
    process = subprocess.run([sys.executable, "-c", call], cwd=root, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout
