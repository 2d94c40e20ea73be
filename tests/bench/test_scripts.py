"""The scripts in `benchmarks/` run from end to end on small cases and leave what they promise."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """script("roofline.py", ...) runs a script as the command line does."""

    def run(name, *arguments):
        monkeypatch.syspath_prepend(str(SCRIPTS))
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return run


def test_emergence(script, tmp_path):
    counts = ("--train-images", 200, "--test-images", 40, "--scored-images", 20, "--steps", 2)
    script("emergence.py", *counts, "--runs", tmp_path / "runs", "--output", tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for name, family in (("CRATE", "crate_vision"), ("ViT", "vit")):
        (own,) = results[name]
        assert own["recipe"]["model"]["family"] == family
        assert len(own["trained"]["mass"]) == own["measures"]["layers"] == 6
        assert 0 < own["trained"]["maskcut"]["mean_iou"] < 1
    assert "2 steps of 64" in (tmp_path / "out" / "README.md").read_text()
    figures = {"emergence.png", "rates.png", "attention_crate.png", "attention_vit.png"}
    assert figures <= {file.name for file in (tmp_path / "out").iterdir()}

    data = tmp_path / "runs" / "data-0"
    masks = sorted((data / "masks").glob("*.png"))
    assert len(masks) == 40
    for mask in masks[:5]:  # an object of the class that the folder names, on its image alone
        label = int(next((data / "images" / "test").glob(f"*/{mask.name}")).parent.name)
        assert set(np.unique(Image.open(mask))) == {0, label + 1}


def test_roofline(script, tmp_path):
    script("roofline.py", "--sizes", "tiny", "--batch", 1, "--repetitions", 1, "--output", tmp_path)
    rows = json.loads((tmp_path / "roofline.json").read_text())["rows"]
    assert [row["what"] for row in rows] == ["inference", "training step"]
    for row in rows:
        for times, floor in ((row["median_s"], row["by_median"]), (row["least_s"], row["by_least"])):
            assert floor["reached"]["vit"] == pytest.approx(times["vit"] / times["crate"])
            assert 0 < floor["floor_s"] == pytest.approx(times["public"] / floor["reachable"]["public"])
    assert "| tiny, inference, batch 1 |" in (tmp_path / "roofline.md").read_text()
