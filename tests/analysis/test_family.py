"""What is measured and shown of the operators that are not MSSA: memberships and their rate, values, A^T A."""

import json
import math

import pytest
import torch
from zoo import build

from crate_transformers import (
    CrateForImageClassification,
    CrateVisionConfig,
    TostConfig,
    TostForCausalLM,
    TostForImageClassification,
    TostVisionConfig,
)
from crate_transformers.analysis import attention_maps, measure_layers, patch_features
from crate_transformers.analysis.tracing import trace
from crate_transformers.errors import UserError
from crate_transformers.evaluation.inspection import Subject, inspect_source
from crate_transformers.evaluation.probes import layer_features
from crate_transformers.interop.export import export_program
from crate_transformers.objective import variational_coding_rate

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8, "num_labels": 5}


def vision(compression, **fields):
    fields = {"image_size": 24, "representatives": (2, 2), "patch_embedding": "convolution", **fields}
    return build(CrateForImageClassification, CrateVisionConfig(**{**SIZES, **fields, "compression": compression}))


def tost(**fields):
    return build(TostForImageClassification, TostVisionConfig(**{**SIZES, "image_size": (20, 33), **fields}))


def pictures(height=24, width=24):
    return torch.randn(4, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["official", "paper"])
def test_the_rate_of_tssa_is_the_variational_one(mode):
    model = tost()
    measures = measure_layers(model, pictures(20, 33), mode)
    layer = trace(model, pictures(20, 33), ("projections", "memberships")).layers[1]
    assert layer.memberships.shape == (4, 15, 3)
    expected = variational_coding_rate(layer.projections, layer.memberships)
    assert measures.coding_rate_mean[1] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert measures.coding_rate_of == ("memberships", "memberships")
    assert math.isnan(measures.rate_reduction_mean[0])
    assert measures.rate_mean[0] > 0


def test_what_the_rate_is_of_is_said():
    measures = measure_layers(vision(["mhsa", "cbsa"]), pictures())
    assert measures.coding_rate_of == ("values", "subspaces")
    assert all(value > 0 for value in measures.coding_rate_mean)


def test_maps_of_memberships():
    maps = attention_maps(tost(), pictures(20, 33))
    assert maps.query == "membership"
    assert maps.maps.shape == (4, 2, 3, 3, 5)
    torch.testing.assert_close(maps.maps.sum(dim=2), torch.ones(4, 2, 3, 5))
    with pytest.raises(UserError, match="leave the patch out"):
        attention_maps(tost(), pictures(20, 33), query=(0, 0))
    with_class_token = attention_maps(vision("tssa"), pictures())
    assert with_class_token.maps.shape == (4, 2, 3, 3, 3)


def test_features_of_patches_alone():
    model = tost()
    features = patch_features(model, pictures(20, 33), layer=0)
    assert (features.features.shape, features.grid) == ((4, 15, 24), (3, 5))
    batches = [{"pixel_values": pictures(20, 33)}]
    assert layer_features(model, batches, "mean", every_layer=True).shape == (3, 4, 24)
    with pytest.raises(UserError, match="after its layers"):
        layer_features(model, batches, "cls")


@pytest.mark.parametrize("model", [tost(image_size=16), vision("cbsa", image_size=16), vision("mhsa", image_size=16)])
def test_a_page_is_written(model, tmp_path):
    from crate_transformers.models.image_processing import image_processor_of

    model.save_pretrained(tmp_path / "model")
    image_processor_of(model.config).save_pretrained(tmp_path / "model")
    study = inspect_source(Subject(str(tmp_path / "model"), data="digits", limit=3), tmp_path / "page")
    assert study.notes == ()
    page = (tmp_path / "page" / "report.html").read_text()
    assert ("Memberships of the patches" in page) == (model.config.model_type == "tost_vision")
    assert json.loads((tmp_path / "page" / "measures.json").read_text())["coding_rate_of"]


def test_text_is_measured():
    sizes = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    model = build(TostForCausalLM, TostConfig(**sizes, vocab_size=53, bos_token_id=1, eos_token_id=1))
    measures = measure_layers(model, torch.randint(2, 53, (3, 11)))
    assert all(rate > 0 for rate in measures.coding_rate_mean)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of the exporter
@pytest.mark.parametrize("model", [tost(image_size=24), vision("tssa"), vision("mhsa", sparsification="mlp")])
def test_a_program_takes_other_sizes(model):
    program = export_program(model).module()
    images = pictures(40, 32)[:2]
    with torch.no_grad():
        expected = model(images, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(program(images), expected, rtol=1e-4, atol=1e-4)
