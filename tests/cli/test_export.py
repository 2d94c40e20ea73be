"""`crate export` and what it refuses; `crate bench` and what it refuses."""

import json
import subprocess
import sys

import pytest
import torch
from zoo import build, images, vision_config

from crate_transformers import CrateForImageClassification


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    build(CrateForImageClassification, vision_config()).save_pretrained(path)
    return path


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11 says it of its own reading
def test_export(crate, folder, tmp_path):
    output = tmp_path / "model.pt2"
    printed = crate("export", folder, "--output", output)
    assert str(output) in printed.splitlines()[-1]
    pixels = images(vision_config())
    model = CrateForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        assert torch.allclose(torch.export.load(output).module()(pixels), model(pixels).logits, atol=1e-5)
    with pytest.raises(ValueError, match="--overwrite"):
        crate("export", folder, "--output", output)


def test_export_refuses(crate, folder, tmp_path):
    with pytest.raises(ValueError, match="onnx or torch"):
        crate("export", folder, "--output", tmp_path / "model", "--format", "tflite")
    with pytest.raises(ValueError, match="end it in .onnx or .pt2"):
        crate("export", folder, "--output", tmp_path / "model.onx")
    with pytest.raises(ValueError, match="is a folder"):
        crate("export", folder, "--output", tmp_path)


def test_bench_refuses(crate, tmp_path):
    with pytest.raises(ValueError, match="unknown suite"):
        crate("bench", "visoin", "--output", tmp_path)
    with pytest.raises(ValueError, match="no case"):
        crate("bench", "vision", "--only", "batch 17", "--output", tmp_path)
    with pytest.raises(ValueError, match="'tpu' is not here: expected cpu"):
        crate("bench", "vision", "--device", "tpu", "--output", tmp_path)
    with pytest.raises(ValueError, match="repetitions"):
        crate("bench", "vision", "--repetitions", 0, "--output", tmp_path)


def test_bench_threads(tmp_path):
    """In processes of their own: threads are set before torch is loaded, or its batched LU hangs (see cli/bench.py)."""

    def bench(threads):
        command = [
            sys.executable,
            "-m",
            "crate_transformers",
            "bench",
            "analysis",
            "--quick",
            "--threads",
            str(threads),
        ]
        return subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, timeout=120)

    done = bench(1)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "analysis.json").read_text())["machine"]["threads"] == 1
    refused = bench(10_000)
    assert refused.returncode == 2
    assert "no more than there are cores" in refused.stderr
