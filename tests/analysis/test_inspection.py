"""An inspection: what it draws, says and writes."""

import json

import pytest
from zoo import baseline, vision_model

from crate_transformers import __version__
from crate_transformers.analysis import inspect_model, measure_layers
from crate_transformers.report.layers import layers_figure


def test_the_figure_draws_the_measures(images):
    measures = {"CRATE": measure_layers(vision_model(), images), "ViT": measure_layers(baseline("vit"), images)}
    left, right = layers_figure(measures).axes
    for axis, column in ((left, "coding_rate_mean"), (right, "nonzero_fraction_mean")):
        for line, own in zip(axis.lines, measures.values(), strict=True):
            assert line.get_ydata().tolist() == pytest.approx(getattr(own, column))
    assert "nats" in left.get_ylabel()


def test_an_inspection_says_what_on_what_and_by_which_version(images, tmp_path):
    result = inspect_model(vision_model(), images, tmp_path, "paper", name="tiny", on="made-up images", num_pictures=2)
    assert {path.name for path in result.files} == {path.name for path in tmp_path.iterdir()}
    for plate in result.plates:
        assert __version__ in plate.caption
        assert "tiny" in plate.caption
    assert "mode paper" in result.plates[0].caption
    assert "4 samples of made-up images" in result.plates[0].caption
    assert json.loads((tmp_path / "measures.json").read_text())["facts"]["samples"] == 4


def test_an_inspection_tells_a_missing_layer_before_the_work(images, tmp_path):
    def never():
        raise AssertionError("the inputs were read")
        yield

    with pytest.raises(ValueError, match="no layer 2"):
        inspect_model(vision_model(), never(), tmp_path, layer=2)
