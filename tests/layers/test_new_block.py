"""A new operator is one file and one line in a table: here both stand in this file, and the whole library takes it."""

import json

import pytest
import torch
from torch import nn

from crate_transformers import CrateForImageClassification, CrateVisionConfig, fuse
from crate_transformers.analysis import measure_layers
from crate_transformers.configuration.blocks import COMPRESSIONS, SPARSIFICATIONS, Block
from crate_transformers.errors import UserError
from crate_transformers.evaluation.inspection import Subject, inspect_source
from crate_transformers.interop.export import export_model
from crate_transformers.layers import CompressionOperator, SparsificationStep
from crate_transformers.models.opening import open_model
from crate_transformers.training import load_recipe, train


class MeanOfTokens(CompressionOperator):
    """Every token receives the projected mean over all tokens."""

    def __init__(self, config, layer_idx=0):
        super().__init__(config, layer_idx)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states, attention_mask=None, cache=None, **kwargs):
        return self.output(hidden_states.mean(dim=1, keepdim=True).expand_as(hidden_states)), None


class RectifiedMap(SparsificationStep):
    """A step that makes no code: the tokens that leave the layer stand for it."""

    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, half_hidden_states):
        return torch.relu(self.linear(half_hidden_states))


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setitem(SPARSIFICATIONS, "map", Block(f"{__name__}:RectifiedMap"))
    monkeypatch.setitem(COMPRESSIONS, "mean", Block(f"{__name__}:MeanOfTokens"))


def small(compression="mean", **fields):
    torch.manual_seed(0)
    config = CrateVisionConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=8, patch_size=4, num_labels=5,
        compression=compression, **fields,
    )  # fmt: skip
    return CrateForImageClassification(config).eval()


@pytest.mark.parametrize("compression", ["mean", ["mssa", "mean"], ["mean", "mssa"]])
def test_it_is_saved_and_loaded(compression, tmp_path):
    model, images = small(compression), torch.randn(3, 3, 8, 8)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["compression"] == compression
    again = open_model(tmp_path)
    torch.testing.assert_close(again(images).logits, model(images).logits)
    torch.testing.assert_close(fuse(model)(images).logits, model(images).logits, rtol=1e-4, atol=1e-5)
    every = model.crate(images).pooler_output  # all tokens of the last layer are made, and one of them alone
    torch.testing.assert_close(model.crate(images, num_read=1).pooler_output, every)


@pytest.mark.parametrize("compression", ["mean", ["mean", "mssa"]])
def test_it_is_inspected(compression, tmp_path):
    model = small(compression)
    model.save_pretrained(tmp_path / "model")
    measures = measure_layers(model, torch.rand(3, 3, 8, 8))
    has_subspaces = [name == "mssa" for name in ([compression] * 2 if compression == "mean" else compression)]
    assert [value == value for value in measures.coding_rate_mean] == has_subspaces
    assert all(rate > 0 for rate in measures.rate_mean)
    assert all(0 < fraction < 1 for fraction in measures.nonzero_fraction_mean)
    study = inspect_source(Subject(str(tmp_path / "model"), data="digits", limit=4), tmp_path / "page")
    assert study.pictures is None
    assert "without such a map" in study.facts["left out"]
    assert "left out" in (tmp_path / "page" / "report.html").read_text()
    written = json.loads((tmp_path / "page" / "measures.json").read_text())
    assert [value is not None for value in written["coding_rate_mean"]] == has_subspaces


def test_attention_of_it_is_no_empty_answer():
    with pytest.raises(UserError, match="output_attentions=True"):
        small()(torch.randn(1, 3, 8, 8), output_attentions=True)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of the exporter
def test_it_is_exported(tmp_path):
    pytest.importorskip("onnxscript")
    export_model(small(), tmp_path / "model.onnx", "onnx")
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_it_trains(tmp_path):
    settings = {
        "model.compression": "mean", "model.hidden_size": 24, "model.num_hidden_layers": 2,
        "model.num_attention_heads": 3, "train.max_steps": 3, "train.warmup_epochs": 0,
    }  # fmt: skip
    train(load_recipe("digits", settings), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["model"]["parameters"] > 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["compression"] == "mean"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compression": "median"}, "compression must be one of mssa, tssa, cbsa, mhsa, mean, got 'median'"),
        ({"compression": ["mssa"]}, "compression names 1 blocks, the model has 2 layers"),
        ({"sparsification": "none-such"}, "sparsification must be one of ista, mlp, none, map"),
    ],
)
def test_a_block_that_is_not_there(fields, message):
    with pytest.raises(UserError, match=message):
        small(**fields)


def test_what_a_block_cannot_do_is_said(monkeypatch):
    monkeypatch.setitem(COMPRESSIONS, "mean", Block(f"{__name__}:MeanOfTokens", lambda config: "it has no causal form"))
    with pytest.raises(UserError, match="compression 'mean': it has no causal form"):
        small()


@pytest.mark.parametrize("sparsification", ["map", ["ista", "map"]])
def test_the_tokens_stand_for_a_code_that_is_not_made(sparsification):
    model, images = small("mssa", sparsification=sparsification), torch.rand(3, 3, 8, 8)
    measures = measure_layers(model, images)
    last = model.crate(images, output_hidden_states=True).hidden_states[-1]
    assert measures.nonzero_fraction_mean[-1] == pytest.approx((last != 0).float().mean().item(), abs=1e-6)
    assert all(rate > 0 for rate in measures.coding_rate_mean)
