"""What is served equals the model: folded, exported, and in ONNX Runtime."""

import copy

import pytest
import torch
from reference import largest_difference, load_golden
from tiny import build, encoder_config, images, vision_config

from crate_transformers import CrateForImageClassification, CrateForMaskedLM, convert_checkpoint, fuse
from crate_transformers.interop import export_model, export_program

FORMS = {
    "cls": {},
    "mean": {"pool": "mean"},
    "no projection": {"num_attention_heads": 1, "head_dim": 13},
    "residual": {"ista_residual": True},
    "two steps": {"ista_steps": 2},
    "over-complete": {"dictionary_ratio": 2, "ista_steps": 2, "tie_dictionary": False, "ista_residual": True},
}


def classifier(**fields):
    """A model whose LayerNorms do something."""
    model = build(CrateForImageClassification, vision_config(**fields))
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    return model


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_fused_model_gives_the_same_logits(form):
    model = classifier(**FORMS[form])
    fused = fuse(model)
    for batch in (1, 5):
        pixels = images(model.config, batch=batch)
        assert largest_difference(fused(pixels), model(pixels).logits) <= 1e-5
    other = images(model.config, size=(20, 14))
    assert largest_difference(fused(other), model(other, interpolate_pos_encoding=True).logits) <= 1e-5


@torch.no_grad()
def test_the_golden_data():
    golden = load_golden("crate_cls")
    fused = fuse(convert_checkpoint(golden.state, num_attention_heads=3))
    assert largest_difference(fused(golden["pixel_values"]), golden["logits"]) <= 1e-5


@torch.no_grad()
def test_a_copy_that_later_changes_do_not_reach():
    model = classifier()
    before, pixels = copy.deepcopy(model.state_dict()), images(model.config)
    fused = fuse(model)
    logits = fused(pixels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for layer in model.crate.layers:
        layer.sparsification.coding.dictionary.data.mul_(2)
    assert torch.equal(fused(pixels), logits)
    assert largest_difference(fuse(model)(pixels), model(pixels).logits) <= 1e-5
    assert largest_difference(fused.double()(pixels.double()), logits) <= 1e-5


def test_bad_input():
    with pytest.raises(ValueError, match="image classifier"):
        fuse(build(CrateForMaskedLM, encoder_config()))
    with pytest.raises(ValueError, match="float32"):
        fuse(classifier().bfloat16())
    with pytest.raises(ValueError, match="cannot be cut"):
        fuse(classifier())(torch.zeros(1, 3, 16, 21))
    with pytest.raises(ValueError, match="torch or onnx"):
        export_model(classifier(), "model.onnx", "tflite")


@torch.no_grad()
def test_export_with_free_batch_and_size():
    model = classifier()
    program = export_program(model).module()
    for batch, size in ((1, (10, 14)), (2, (15, 21)), (3, (40, 14))):
        pixels = images(model.config, batch=batch, size=size)
        expected = model(pixels, interpolate_pos_encoding=True).logits
        assert largest_difference(program(pixels), expected) <= 1e-5


@torch.no_grad()
def test_the_exported_file(tmp_path):
    model = classifier()
    path = export_model(model, tmp_path / "folder" / "model.pt2", "torch")
    pixels = images(model.config)
    assert largest_difference(torch.export.load(path).module()(pixels), model(pixels).logits) <= 1e-5
    assert [file.name for file in path.parent.iterdir()] == ["model.pt2"]


@torch.no_grad()
def test_onnx_in_onnx_runtime(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = classifier()
    path = export_model(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, size in ((1, (10, 14)), (2, (15, 21)), (3, (40, 14))):
        pixels = images(model.config, batch=batch, size=size)
        (logits,) = session.run(["logits"], {"pixel_values": pixels.numpy()})
        expected = model(pixels, interpolate_pos_encoding=True).logits
        assert largest_difference(torch.from_numpy(logits), expected) <= 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@torch.no_grad()
def test_int8_weights():
    quantization = pytest.importorskip("torchao.quantization")
    model = classifier()
    pixels = images(model.config)
    logits = model(pixels).logits.clone()
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    assert largest_difference(model(pixels).logits, logits) <= 0.1 * logits.abs().max()
