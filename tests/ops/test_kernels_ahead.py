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


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
def test_they_compile_and_fit_now(target, ahead, monkeypatch, tmp_path):
    """The largest heads in bfloat16, by the Triton that is installed; afresh, not from its cache."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    rows = list(ahead["rows"]((target,), dtypes=("bf16",), head_sizes=(128,), causal=(True,)))
    assert len(rows) == 4
    for row in rows:
        assert row["shared"] <= ahead["TARGETS"][target][1], row
        assert row["registers"] > 0, row
    assert next(row for row in rows if row["kernel"] == "attention, backward")["shared"] > 0


def test_a_kernel_that_is_too_large_is_seen(ahead):
    """Tiles of 256 tokens do not fit: the figures are those of the kernel, and the test above can fail."""
    what, kernel, types, constants = next(
        made for made in ahead["kernels"](("fp32",), (128,)) if made[0]["kernel"] == "attention, forward"
    )
    target, most = ahead["TARGETS"]["gfx942"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["crate_transformers.ops.mssa.triton"], "_BLOCK", 256)
        made = ahead["compile_for"](target, what, kernel, types, constants)
    assert ahead["resources"](made)["shared"] > most
