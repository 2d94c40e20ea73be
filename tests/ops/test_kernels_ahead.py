"""The Triton kernels fit the GPUs that they are for: compiled here, without one, and by a stored table of all of them.

Triton is in the extra [dev] where it exists, on Linux; there these tests run, and fail where it is not installed.
"""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.triton
ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
STORED = json.loads((BENCHMARKS / "results" / "kernels_ahead.json").read_text())


@pytest.fixture(scope="module")
def ahead():
    """benchmarks/kernels_ahead.py, and a folder of its own for what it compiles."""
    return runpy.run_path(str(BENCHMARKS / "kernels_ahead.py"))


def test_the_table_is_of_these_kernels(ahead):
    assert STORED["sources"] == ahead["sources"](), "run benchmarks/kernels_ahead.py again"
    found = {(row["target"], row["kernel"], row["dtype"], row["head_size"], row["causal"]) for row in STORED["rows"]}
    asked = {
        (target, *(what[name] for name in ("kernel", "dtype", "head_size", "causal")))
        for target in ahead["TARGETS"]
        for what, *_ in ahead["kernels"]()
    }
    assert found == asked
    assert {row["head_size"] for row in STORED["rows"]} >= {16, 32, 64, 128}


def test_the_page_shows_the_table(ahead):
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert "\n".join(ahead["table"](STORED["rows"])) in page


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
def test_every_kernel_of_the_table_fits(target, ahead):
    for row in STORED["rows"]:
        if row["target"] == target:
            assert 0 <= row["shared"] <= ahead["TARGETS"][target][1], row
            assert 0 < row["registers"] <= (512 if target == "gfx942" else 255), row
            assert row["kernel"].startswith("attention") or row["spills"] == 0, row


def compiled(ahead, target, kernel, head_size=64):
    """What a kernel in bfloat16 takes, compiled now."""
    what, *made = next(row for row in ahead["kernels"](("bf16",), (head_size,), (False,)) if row[0]["kernel"] == kernel)
    return ahead["resources"](ahead["compile_for"](ahead["TARGETS"][target][0], what, *made))


@pytest.mark.parametrize(
    ("target", "kernel"),
    [*((target, "attention, forward") for target in ("sm_80", "sm_90", "gfx942")), ("sm_90", "attention, backward")],
)
def test_they_compile_and_fit_now(target, kernel, ahead, monkeypatch, tmp_path):
    """By the Triton that is installed, afresh and not from its cache."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found = compiled(ahead, target, kernel)
    assert 0 < found["shared"] <= ahead["TARGETS"][target][1]
    assert found["registers"] > 0


def test_the_figures_are_those_of_the_kernel(ahead, monkeypatch):
    """Smaller tiles take less, so a kernel that has grown too large is seen."""
    usual = compiled(ahead, "sm_80", "attention, forward", 16)
    monkeypatch.setattr(sys.modules["crate_transformers.ops.mssa.triton"], "_BLOCK", 32)
    assert compiled(ahead, "sm_80", "attention, forward", 16)["shared"] < usual["shared"]
