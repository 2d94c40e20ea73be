"""What answers at once loads nothing heavy."""

import subprocess
import sys

import pytest

CALL = """
import sys
from crate_transformers.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "transformers", "numpy", "matplotlib", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(("arguments", "words"), [(["recipes"], "imagenet1k-paper"), (["--help"], "reconstruct")])
def test_pages_of_text_load_neither_torch_nor_transformers(arguments, words):
    call = [sys.executable, "-c", CALL, *arguments]
    process = subprocess.run(call, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert words in process.stdout


def test_what_tasks_declare_is_read_without_torch():
    call = """
import sys
from crate_transformers.recipes.tasks import known_options
assert {"mask_probability", "crop"} <= set(known_options("data"))
heavy = {"torch", "transformers", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    process = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
