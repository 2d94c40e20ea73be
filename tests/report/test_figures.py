"""Figures and files: what they draw, what they say, and that nothing global is touched."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from crate_transformers.files import write_bytes
from crate_transformers.report.page import page_html
from crate_transformers.report.pictures import overlay, paint_masks, picture_sheet, to_pictures
from crate_transformers.report.plates import Plate
from crate_transformers.report.tables import table_html
from crate_transformers.report.writing import write_json


def test_pictures_come_back_from_tensors():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    tensors = torch.from_numpy(((pictures / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
    assert np.array_equal(to_pictures(tensors, mean, std), pictures)
    grey = to_pictures(torch.rand(2, 1, 5, 7))
    assert grey.shape == (2, 5, 7, 3)
    assert (grey.min(), grey.max()) == (0, 255)
    assert to_pictures(torch.zeros(1, 3, 2, 2)).max() == 0


def test_overlays_follow_the_map():
    picture = np.full((6, 10, 3), 128, dtype=np.uint8)
    heat = np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    painted = overlay(picture, heat)
    assert (painted[:2, 5:] == painted[0, 9]).all()
    assert (painted[:2, :5] == painted[5, 0]).all()
    assert painted[0, 9].sum() > painted[5, 0].sum()
    assert overlay(picture, np.ones((3, 2))).shape == picture.shape  # a flat map
    mask = np.zeros((1, 6, 10), dtype=bool)
    mask[0, 1:4, 2:6] = True
    painted = paint_masks(picture, mask)
    assert (painted[~mask[0]] == 128).all()
    assert (painted[mask[0]] != 128).any(axis=-1).all()
    assert (painted[1, 2] != painted[2, 3]).any()  # a line around


def test_a_plate_carries_its_caption(tmp_path):
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    plate = Plate("dots", picture_sheet([[picture, picture]], ["a", "b"]), "What, on <what>, $mode$.")
    png, svg = plate.write(tmp_path)
    assert b"What, on <what>" in png.read_bytes()
    assert "What, on &lt;what&gt;" in svg.read_text()
    assert "&lt;what&gt;" in plate.html()
    assert plate.html().count("<figcaption>") == 1


def test_files_are_whole_or_absent(tmp_path):
    path = write_bytes(tmp_path / "deep" / "a.txt", b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "text")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert json.loads(write_json(tmp_path / "a.json", {"x": [float("nan"), 1.5]}).read_text()) == {"x": [None, 1.5]}


def test_pages_escape(tmp_path):
    page = page_html("<b>", {"<i>": "<u>"}, [("<s>", table_html([{"<a>": "<p>", "x": 1.23456}]))])
    for tag in ("<b>", "<i>", "<u>", "<s>", "<a>", "<p>"):
        assert tag not in page.replace('<p class="meta">', "")
    assert "1.235" in page


def test_measuring_loads_no_drawing_library():
    # out of reach rather than not loaded: transformers 5.17 takes sklearn itself where it is there
    names = "sys.modules.update(dict.fromkeys(('matplotlib', 'sklearn', 'datasets')))"
    code = f"import sys; {names}; import crate_transformers; from crate_transformers.analysis import measure_layers"
    subprocess.run([sys.executable, "-c", code], check=True)
    plain = "import sys, crate_transformers; assert not {'matplotlib', 'sklearn', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", plain], check=True)


def test_no_drawing_library_is_loaded_before_a_figure_is_drawn():
    code = """
import importlib, pkgutil, sys
import crate_transformers.report as report
for module in pkgutil.iter_modules(report.__path__):
    importlib.import_module(f"{report.__name__}.{module.name}")
assert not {"matplotlib", "scipy.ndimage"} & set(sys.modules), "heavy"
report.curves.curves_figure([{"step": 1, "loss": 2.0}])
assert "matplotlib" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_figure_is_laid_out_once(monkeypatch):
    """One drawing to lay it out, and one for each file; savefig draws twice where a layout engine is left."""
    figure = Figure(layout="constrained")
    figure.subplots().plot([1, 2])
    drawn, draw = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: (drawn.append(self), draw(self, renderer)))
    plate = Plate("plate", figure, "a caption")
    files = [plate.render("png"), plate.render("svg"), plate.render("png")]
    assert len(drawn) == 4
    assert files[0] == files[2]
