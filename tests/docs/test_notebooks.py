"""Every notebook of the documents runs from its first cell to its last, within its time."""

import time
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.py"))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the suite runs two tests at once
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = jupytext.read(path)
    started = time.perf_counter()
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    assert time.perf_counter() - started < 300
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)  # it shows something
    said = "".join(output.get("text", "") for output in outputs if output.get("name") == "stderr").splitlines()
    warned = [line for line in said if "Warning" in line]
    assert [line for line in warned if "TqdmWarning: IProgress" not in line] == []  # tqdm 4 asks for widgets
