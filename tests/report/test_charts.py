"""Charts and tables of colours: the numbers within them, and that a page has one look with the explorer."""

import html
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import crate_transformers
from crate_transformers.report.charts import Chart, Series, chart_html, charts_html, ticks
from crate_transformers.report.colors import SIGNS, VIRIDIS, along
from crate_transformers.report.confusion import confusion_heat
from crate_transformers.report.curves import curves_charts, curves_rows
from crate_transformers.report.heats import Heat, heat_html
from crate_transformers.report.layers import layer_heats

PACKAGE = Path(crate_transformers.__file__).parent
NAN = math.nan


def data_of(drawn, kind="chart"):
    return json.loads(html.unescape(re.search(f'data-{kind}="([^"]*)"', drawn)[1]))


def test_a_chart_holds_its_numbers_and_draws_them():
    series = (Series("a <b>", (0, 1, 2), (3.0, NAN, 1 / 3), (0.5, 0.5, 0.25)), Series("other", (0, 2), (-1.0, 2.0)))
    drawn = chart_html(Chart('"R" & more', "layer", series))
    data = data_of(drawn)
    assert data["series"][0] == {"name": "a <b>", "x": [0, 1, 2], "y": [3.0, None, 1 / 3], "spread": [0.5, 0.5, 0.25]}
    assert "<b>" not in drawn.replace("</b>", "")
    assert drawn.count("<circle") == 4
    assert drawn.count("<polyline") == 3  # a gap cuts a curve
    assert "a &lt;b&gt;: 3 at 0, 0.333333 at 2" in drawn
    left, top, width, height = data["box"]
    x, y = re.search(r'<circle class="dot look0" cx="([\d.]+)" cy="([\d.]+)"', drawn).groups()
    assert float(x) == pytest.approx(left, abs=0.01)
    low, high = data["y"]
    assert float(y) == pytest.approx(top + height * (high - 3.0) / (high - low), abs=0.01)
    assert low < -1.0
    assert high > 3.5
    assert float(re.findall(r'cx="([\d.]+)"', drawn)[-1]) == pytest.approx(left + width, abs=0.01)


@pytest.mark.parametrize(
    ("y", "x"), [((5.0,), (7,)), ((0.0, 0.0), (0, 1)), ((NAN, NAN), (0, 1)), ((1e-9, 2e-9), (0, 10**6))]
)
def test_odd_numbers_are_drawn(y, x):
    drawn = charts_html([Chart("m", "step", (Series("s", x, y),))], [{"step": 1, "s": 2.0}], "s.csv")
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("info", "")
    assert 'download="s.csv"' in drawn


def test_ticks_are_round_and_few():
    for low, high in ((0.13, 1.21), (-2011.0, -13.0), (0, 1e-7), (131.2, 131.4), (-3e6, 9e6), (0.0, 600.0)):
        found = ticks(low, high, 6)
        assert 2 <= len(found) <= 6
        assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
        assert np.allclose(np.diff(found), found[1] - found[0])
    assert ticks(0, 3, 8, whole=True) == [0, 1, 2, 3]
    assert ticks(-0.5, 0.5, 8, whole=True) == [0]


def test_curves_of_a_run():
    history = [
        {"step": 5, "loss": 2.0}, {"step": 10, "loss": 1.5}, {"step": 10, "eval_loss": 1.75, "eval_accuracy": 0.5},
        {"step": 12, "train_loss": 1.0},
    ]  # fmt: skip
    loss, accuracy = curves_charts(history, "eval_accuracy")
    assert [series.name for series in loss.series] == ["training loss", "validation loss"]
    assert (loss.series[0].x, loss.series[0].y) == ((5, 10), (2.0, 1.5))
    assert accuracy.series[0].y == (0.5,)
    assert curves_rows(history, "eval_accuracy") == [
        {"step": 5, "training loss": 2.0, "validation loss": "", "validation accuracy": ""},
        {"step": 10, "training loss": 1.5, "validation loss": 1.75, "validation accuracy": 0.5},
    ]
    assert len(curves_charts(history, "eval_loss")) == 1
    assert curves_charts([], None) == []


def test_layers_over_training():
    entries = [
        {"step": step, "layer_coding_rate": [1.0 * step, 2.0], "layer_nonzero_fraction": [0.5, 0.25]} for step in (3, 7)
    ]
    assert layer_heats(entries[:1]) == []
    rates, zeros = layer_heats([{"step": 1, "loss": 3.0}, *entries])
    assert rates.values.tolist() == [[3.0, 7.0], [2.0, 2.0]]
    assert (list(rates.columns), list(zeros.rows)) == (["3", "7"], ["0", "1"])


def test_a_table_of_colours_holds_its_numbers():
    heat = Heat("n <m>", np.array([[0.0, NAN, 5.0]]), "row", "column", ["a"], ["b", "c", "<d>"], written=True)
    drawn = heat_html(heat)
    assert data_of(drawn, "heat")["values"] == [[0.0, None, 5.0]]
    assert "<m>" not in drawn
    assert "<d>" not in drawn


def test_a_confusion_matrix_keeps_the_most_frequent_classes():
    truth = np.repeat(np.arange(40), np.arange(40) + 1)
    heat = confusion_heat(truth, truth, [f"class {i}" for i in range(40)])
    assert heat.values.shape == (30, 30)
    assert list(heat.rows) == [f"class {i}" for i in range(10, 40)]
    assert heat.values.diagonal().tolist() == list(range(11, 41))


def test_the_look_is_the_explorers():
    """Reports and the explorer's page are of one house: the same colours of things and of numbers."""
    script = (PACKAGE / "explore/static/colours.js").read_text()
    luminances = [
        re.findall(r"const \[r, g, b\].*\n.*#000", text) for text in (script, (PACKAGE / "report/page.js").read_text())
    ]
    assert luminances[0] == luminances[1]  # one rule for the ink on a colour
    assert len(luminances[0]) == 1
    for name, ramp in (("VIRIDIS", VIRIDIS), ("SIGNS", SIGNS)):
        theirs = json.loads(re.search(rf"{name} = (\[\[.*?\]\]);", script)[1])
        assert [list(color) for color in ramp] == theirs
    own, theirs = ((PACKAGE / path).read_text() for path in ("report/page.css", "explore/static/style.css"))
    for name in ("ground", "ink", "quiet", "line", "soft", "first", "second", "bad", "chosen"):
        values = [re.findall(rf"--{name}: (#\w+)", style) for style in (own, theirs)]
        assert values[0] == values[1], name
        assert len(values[0]) == 2  # light and dark
    assert along(SIGNS, np.array([0.5])).tolist() == [[225, 225, 225]]
