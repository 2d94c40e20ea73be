"""An inspection: what it draws, says and writes."""

import json
from dataclasses import replace

import pytest
from zoo import baseline, vision_model

from crate_transformers import __version__
from crate_transformers.analysis import inspect_model, measure_layers
from crate_transformers.analysis.plates import measure_plates
from crate_transformers.report.layers import flattened, layers_figure


def test_the_figure_draws_the_measures(images):
    measures = {"CRATE": measure_layers(vision_model(), images), "ViT": measure_layers(baseline("vit"), images)}
    axes = layers_figure(measures).axes
    columns = ("coding_rate", "nonzero_fraction", "hoyer_sparsity")
    drawn = {}
    for axis in axes:
        column = next(
            c for c, words in zip(columns, ("nats", "non-zero", "Hoyer"), strict=True) if words in axis.get_ylabel()
        )
        drawn.setdefault(column, []).extend(line.get_ydata().tolist() for line in axis.lines)
    assert drawn == {
        column: [pytest.approx(getattr(own, f"{column}_mean")) for own in measures.values()] for column in columns
    }


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


def test_no_curve_is_flattened(images):
    """Two models whose rates differ by far have an axis each; what is on one scale shares one."""
    own = measure_layers(vision_model(), images)
    far = replace(own, coding_rate_mean=tuple(40 * rate for rate in own.coding_rate_mean))
    far = replace(far, coding_rate_std=tuple(40 * rate for rate in own.coding_rate_std))
    assert flattened({"one": own, "far": far}, "coding_rate")
    level = replace(own, nonzero_fraction_mean=(1.0, 0.99999), nonzero_fraction_std=(0.0, 0.0))
    assert not flattened({"one": own, "level": level}, "nonzero_fraction")  # a GELU's: to be seen as level
    assert not flattened({"one": own, "same": own}, "coding_rate")
    axes = layers_figure({"one": own, "far": far}).axes
    assert len(axes) == 4
    rates = [axis for axis in axes if "nats" in axis.get_ylabel()]
    assert [len(axis.lines) for axis in rates] == [1, 1]
    assert rates[1].get_ylim()[1] > 10 * rates[0].get_ylim()[1]
    assert len(layers_figure({"one": own, "same": own}).axes) == 3
    captions = [measure_plates({"one": own, other: found}, "x")[0].caption for other, found in (("f", far), ("s", own))]
    assert ["each model has its own" in caption for caption in captions] == [True, False]
