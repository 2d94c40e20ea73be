"""crate probe and crate reconstruct, as a user calls them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification
from zoo import build

from crate_transformers import CrateForImageClassification, CrateMAEForPreTraining, CrateMAEModel
from crate_transformers.cli.probe import probe
from crate_transformers.cli.reconstruct import reconstruct
from crate_transformers.configuration import CrateMAEConfig, CrateVisionConfig
from crate_transformers.models.image_processing import image_processor_of

SIZES = {"hidden_size": 20, "num_attention_heads": 5, "num_hidden_layers": 2, "image_size": 8, "patch_size": 2}


def saved(folder, model):
    model.save_pretrained(folder)
    image_processor_of(model.config, center_crop=False).save_pretrained(folder)
    return str(folder)


def mae(folder, kind=CrateMAEForPreTraining, **fields):
    return saved(folder, build(kind, CrateMAEConfig(**{**SIZES, "num_channels": 1, **fields})))


def picture(path, size=(29, 17)):
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# -- probe -------------------------------------------------------------------------------------------------------------


def test_probe_of_every_layer(tmp_path, capsys):
    probe(
        mae(tmp_path / "mae"), tmp_path / "out", "digits", layers=True, shots=3, seeds=2, pool=None, limit=200,
        settings=None,
    )  # fmt: skip
    with open(tmp_path / "out" / "probes.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["layer"], row["probe"], row["seed"]) for row in rows} == {
        (layer, name, seed) for layer in ("embedding", "0", "1") for name in ("knn", "linear") for seed in "01"
    }
    assert {(row["labelled"], row["held_out"], row["pool"]) for row in rows} == {("30", "200", "mean")}
    content = json.loads((tmp_path / "out" / "probes.json").read_text())
    layer = next(row for row in content["summary"] if (row["layer"], row["probe"]) == (1, "linear"))
    own = [float(row["accuracy"]) for row in rows if (row["layer"], row["probe"]) == ("1", "linear")]
    assert layer["accuracy"] == pytest.approx(np.mean(own))
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".csv", ".json", ".png", ".svg"}
    said = capsys.readouterr().out
    assert "30 labelled, 200 held-out images of digits" in said
    with open(tmp_path / "out" / "rates.csv", encoding="utf-8") as file:
        rates = {row["layer"]: row for row in csv.DictReader(file)}
    assert list(rates) == ["embedding", "0", "1"]
    for layer, row in rates.items():
        numbers = {name: float(row[name]) for name in ("rate", "class_rate", "rate_reduction")}
        assert numbers["rate"] - numbers["class_rate"] == pytest.approx(numbers["rate_reduction"], abs=1e-5)
        assert numbers["rate_reduction"] > 0
        where = layer if layer == "embedding" else f"layer {layer}"
        assert f"{where}, rates: R {numbers['rate']:.3f}, R_c {numbers['class_rate']:.3f}, Delta R" in said
    with open(tmp_path / "out" / "class_rates.csv", encoding="utf-8") as file:
        by_class = [row for row in csv.DictReader(file) if row["layer"] == "1"]
    assert [row["class"] for row in by_class] == [*"0123456789"]
    mean = sum(int(row["samples"]) * float(row["rate"]) for row in by_class) / 200
    assert mean == pytest.approx(float(rates["1"]["class_rate"]), rel=1e-5)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"depth.png", "rates.png"}


@pytest.mark.parametrize("family", ["crate", "vit"])
def test_probe_of_classifiers(tmp_path, family):
    if family == "crate":
        model = build(CrateForImageClassification, CrateVisionConfig(**SIZES, num_labels=3))
    else:
        # weights as wide as the picture is strong: with transformers' 0.02 the class token hardly sees the patches
        config = ViTConfig(**SIZES, intermediate_size=13, num_labels=3, initializer_range=0.2)
        model = build(ViTForImageClassification, config)
    folder = saved(tmp_path / "model", model)
    probe(folder, tmp_path / "out", "digits", layers=False, shots=None, seeds=1, pool=None, limit=150, settings=None)
    content = json.loads((tmp_path / "out" / "probes.json").read_text())
    assert [row["layer"] for row in content["summary"]] == [1, 1]  # the last of two, counted from 0
    assert all(row["accuracy"] > 0.25 for row in content["summary"])  # a tenth is chance


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"pool": "max"}, "pool must be cls or mean"),
        ({"shots": 0}, "--shots must be at least 1"),
        ({"seeds": 0}, "--seeds and --limit must be at least 1"),
        ({"data": None}, "say what to evaluate on with --data"),
    ],
)
def test_probe_refuses(tmp_path, keywords, message):
    options = {"data": "digits", "layers": False, "shots": None, "seeds": 1, "pool": None, "limit": 100}
    with pytest.raises(ValueError, match=message):
        probe(mae(tmp_path / "mae"), tmp_path / "out", settings=None, **{**options, **keywords})


# -- reconstruct -------------------------------------------------------------------------------------------------------


def test_reconstruct_pictures_of_any_shape(tmp_path, capsys):
    folder = mae(tmp_path / "mae")
    places = [picture(tmp_path / "wide.png"), picture(tmp_path / "tall.jpg", (9, 31))]
    reconstruct(folder, places, tmp_path / "out", mask_ratio=0.5, side=None, seed=0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tall.png", "wide.png"]
    said = capsys.readouterr().out
    assert "wide.png: 14 patches hidden" in said  # 8 x 14 pixels: 28 patches
    with Image.open(tmp_path / "out" / "wide.png") as sheet:
        assert sheet.width > 3 * sheet.height
    reconstruct(folder, places[:1], tmp_path / "again", mask_ratio=0.5, side=None, seed=0)
    assert (tmp_path / "again" / "wide.png").read_bytes() == (tmp_path / "out" / "wide.png").read_bytes()
    reconstruct(folder, places[:1], tmp_path / "other", mask_ratio=0.5, side=None, seed=1)
    assert (tmp_path / "other" / "wide.png").read_bytes() != (tmp_path / "out" / "wide.png").read_bytes()


def test_nothing_hidden(tmp_path, capsys):
    places = [picture(tmp_path / "a.png")]
    reconstruct(mae(tmp_path / "mae", num_channels=3), places, tmp_path / "out", mask_ratio=0.0, side=16, seed=0)
    assert "0 patches hidden" in capsys.readouterr().out


def test_reconstruct_refuses(tmp_path):
    places = [picture(tmp_path / "a.png")]
    options = {"output": tmp_path / "out", "mask_ratio": None, "side": None, "seed": 0}
    with pytest.raises(ValueError, match="CrateMAEModel has no decoder"):
        reconstruct(mae(tmp_path / "encoder", CrateMAEModel), places, **options)
    whole = mae(tmp_path / "whole")
    for ratio in (1.0, -0.5):
        with pytest.raises(ValueError, match=r"--mask-ratio must be in \[0, 1\)"):
            reconstruct(whole, places, **{**options, "mask_ratio": ratio})
    with pytest.raises(ValueError, match="--side 1 is smaller than a patch"):
        reconstruct(whole, places, **{**options, "side": 1})
