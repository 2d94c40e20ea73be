"""The examples run, and do what they say."""

import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from crate_transformers import CrateForImageClassification, CrateVisionConfig
from crate_transformers.models.image_processing import image_processor_of

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*arguments)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    fields = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "num_labels": 5}
    config = CrateVisionConfig(image_size=[16, 32], patch_size=8, **fields)
    CrateForImageClassification(config).save_pretrained(tmp_path / "model")
    image_processor_of(config).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_a_loop_of_your_own_learns():
    assert run("own_loop", 120) > 0.8


def test_layer_by_layer(folder, tmp_path, capsys):
    Image.new("RGB", (20, 40), "red").save(tmp_path / "red.png")
    for files in ((), (str(tmp_path / "red.png"),)):
        run("layer_by_layer", folder, *files)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"official: {len(files) or 8} images"
        assert len(lines) == 6
        assert lines[-1].startswith("  layer  1: R^c ")


def test_serve(folder, tmp_path, capsys):
    run("serve", folder, str(tmp_path / "model.onnx"))
    gap = float(capsys.readouterr().out.split("differ by ")[1].split()[0])
    assert gap < 1e-5
    assert (tmp_path / "model.onnx").stat().st_size > 10_000
