"""Every notebook of the documents runs from its first cell to its last, all of them within their time."""

import ast
import os
import re
import tempfile
import time
from functools import cache
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
TOGETHER = 360  # seconds, on two cores


@cache
def executed(path):
    """(the notebook with its outputs, seconds); run once, in a folder of its own, with the suite's share of threads."""
    notebook = jupytext.read(path)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))  # the suite runs two tests at once
        patch.setenv("IPYTHONDIR", os.path.join(place, "ipython"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("PYTHONWARNINGS", "default")  # also of libraries: an IPython kernel hides deprecations
        started = time.perf_counter()
        resources = {"metadata": {"path": place}}
        NotebookClient(notebook, timeout=280, kernel_name="python3", resources=resources).execute()
        return notebook, time.perf_counter() - started


def outputs_of(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    outputs = outputs_of(executed(path)[0])
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2  # it shows something
    said = "".join(output.get("text", "") for output in outputs if output.get("name") == "stderr").splitlines()
    warned = [line for line in said if "Warning" in line]
    assert [line for line in warned if "TqdmWarning: IProgress" not in line] == []  # tqdm 4 asks for widgets


def test_they_are_done_within_their_time():
    seconds = {path.stem: round(executed(path)[1]) for path in NOTEBOOKS}
    assert sum(seconds.values()) < TOGETHER, seconds


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_claims(path):
    """Claims are assertions; names are public ones; nothing that a run shows is kept in the repository."""
    tree = ast.parse(path.read_text("utf-8"))
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) >= 3
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    ours = [node for node in modules if node.module.startswith("crate_transformers")]
    names = [part for node in ours for part in (*node.module.split("."), *(alias.name for alias in node.names))]
    assert [name for name in names if name.startswith("_")] == []
    assert {len(node.module.split(".")) for node in ours} <= {1, 2}  # the package, or a room that it documents
    assert list(FOLDER.rglob("*.ipynb")) == []


def test_all_are_listed():
    listed = re.findall(r"\]\((\w+\.py)\)", (FOLDER / "README.md").read_text("utf-8"))
    assert sorted(listed) == [path.name for path in NOTEBOOKS]
