"""What is served equals the model: folded, exported, and in ONNX Runtime."""

import copy

import pytest
import torch
from reference import largest_difference, load_golden
from zoo import IMAGE, build, decoder_config, encoder_config, images, mae_config, token_ids, vision_config

from crate_transformers import (
    CrateForCausalLM,
    CrateForImageClassification,
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateMAEForPreTraining,
    CrateModel,
    TostConfig,
    TostForCausalLM,
    convert_checkpoint,
    fuse,
)
from crate_transformers.analysis import measure_layers
from crate_transformers.configuration.validation import as_pair
from crate_transformers.interop import export_model, export_program

FORMS = {
    "cls": {},
    "mean": {"pool": "mean"},
    "no projection": {"num_attention_heads": 1, "head_dim": 13},
    "residual": {"ista_residual": True},
    "two steps": {"ista_steps": 2},
    "over-complete": {"dictionary_ratio": 2, "ista_steps": 2, "tie_dictionary": False, "ista_residual": True},
}


def rough(model):
    """A model whose LayerNorms do something."""
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, 0.0, 0.3)
    return model


def classifier(**fields):
    return rough(build(CrateForImageClassification, vision_config(**fields)))


TEXT = {
    CrateModel: encoder_config,
    CrateForMaskedLM: encoder_config,
    CrateForCausalLM: decoder_config,
    CrateForSequenceClassification: decoder_config,
    CrateForTokenClassification: encoder_config,
    CrateForMultipleChoice: encoder_config,
    CrateForQuestionAnswering: encoder_config,
}


def sentences(model_class, config, batch=3, length=9):
    """(input_ids, attention_mask) with padding in the first row; an axis of choices where the model wants one."""
    shape = (batch, 2, length) if model_class is CrateForMultipleChoice else (batch, length)
    ids, mask = torch.randint(5, config.vocab_size, shape), torch.ones(shape, dtype=torch.long)
    mask[0, ..., length // 2 :] = 0
    return {"input_ids": ids.where(mask.bool(), torch.tensor(config.pad_token_id)), "attention_mask": mask}


def gap(outputs, expected):
    """Largest difference of all tensors that both give (a cache is none)."""
    pairs = [(outputs[name], expected[name]) for name in expected if isinstance(expected[name], torch.Tensor)]
    assert pairs
    return max(largest_difference(one, other) for one, other in pairs)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_fused_model_gives_the_same_logits(form):
    model = classifier(**FORMS[form])
    fused = fuse(model)
    for batch in (1, 5):
        pixels = images(model.config, batch=batch)
        assert largest_difference(fused(pixels).logits, model(pixels).logits) <= 1e-5
    other = images(model.config, size=(20, 14))
    assert (
        largest_difference(
            fused(other, interpolate_pos_encoding=True).logits, model(other, interpolate_pos_encoding=True).logits
        )
        <= 1e-5
    )


@pytest.mark.parametrize("num_read", [1, None])
def test_the_tokens_and_the_gradient_of_the_image(num_read):
    model = classifier()
    fused, pixels = fuse(model), images(model.config).requires_grad_()
    read = fused.crate(pixels, num_read=num_read).last_hidden_state
    expected = model.crate(pixels).last_hidden_state[:, :num_read]
    assert read.shape == expected.shape
    assert largest_difference(read, expected) <= 1e-5
    (gradient,) = torch.autograd.grad(fused(pixels).logits.sum(), pixels)  # sums in place leave it whole
    assert largest_difference(gradient, torch.autograd.grad(model(pixels).logits.sum(), pixels)[0]) <= 1e-5


@torch.no_grad()
def test_what_was_recorded_before_is_recorded_of_the_copy():
    model, wanted = classifier(), {"output_half_hidden_states": True}
    pixels = images(model.config)
    expected = model(pixels, **wanted).half_hidden_states  # installs the hooks
    recorded = fuse(model)(pixels, **wanted).half_hidden_states
    for of_copy, of_model in zip(recorded, expected, strict=True):
        assert largest_difference(of_copy, of_model) <= 1e-5


@torch.no_grad()
def test_a_mask_and_autocast():
    model = classifier()
    fused, pixels = fuse(model), images(model.config)
    tokens = model.config.num_patches + 1
    mask = torch.zeros(len(pixels), 1, tokens, tokens)
    mask[..., 3] = -torch.inf
    difference = largest_difference(
        fused(pixels, attention_mask=mask).logits, model(pixels, attention_mask=mask).logits
    )
    assert difference <= 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert fused.crate.layers[0].compression(torch.zeros(1, 3, 13)).dtype == torch.float32


@torch.no_grad()
def test_the_golden_data():
    golden = load_golden("crate_cls")
    fused = fuse(convert_checkpoint(golden.state, num_attention_heads=3))
    assert largest_difference(fused(golden["pixel_values"]).logits, golden["logits"]) <= 1e-5


@torch.no_grad()
def test_a_copy_that_later_changes_do_not_reach():
    model = classifier()
    before, pixels = copy.deepcopy(model.state_dict()), images(model.config)
    fused = fuse(model)
    logits = fused(pixels).logits
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for layer in model.crate.layers:
        layer.sparsification.coding.dictionary.data.mul_(2)
    assert torch.equal(fused(pixels).logits, logits)
    assert largest_difference(fuse(model)(pixels).logits, model(pixels).logits) <= 1e-5
    assert largest_difference(fused.double()(pixels.double()).logits, logits) <= 1e-5


@pytest.mark.parametrize("model_class", TEXT)
@torch.no_grad()
def test_text_models(model_class):
    config = TEXT[model_class](pad_token_id=1)
    model = rough(build(model_class, config))
    fused = fuse(model)
    assert type(fused) is model_class
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    inputs = sentences(model_class, config)
    assert gap(fused(**inputs), model(**inputs)) <= 1e-5


@torch.no_grad()
def test_a_fused_decoder_generates_the_same_tokens():
    model = rough(build(CrateForCausalLM, decoder_config()))
    ids = torch.randint(5, model.config.vocab_size, (2, 5))
    settings = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(fuse(model).generate(ids, **settings), model.generate(ids, **settings))


@torch.no_grad()
def test_a_fused_model_is_fused_once():
    model = classifier()
    pixels = images(model.config)
    assert torch.equal(fuse(fuse(model))(pixels).logits, fuse(model)(pixels).logits)
    assert torch.equal(export_program(fuse(model)).module()(pixels), export_program(model).module()(pixels))


@torch.no_grad()
def test_the_masked_autoencoder():
    model = rough(build(CrateMAEForPreTraining, mae_config()))
    pixels = images(model.config)
    noise = torch.rand(len(pixels), model.config.num_patches)
    assert gap(fuse(model)(pixels, noise), model(pixels, noise)) <= 1e-5


def test_bad_input():
    with pytest.raises(ValueError, match="fuse takes a CRATE model, got Linear"):
        fuse(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="save the model that it was made from"):
        fuse(classifier()).save_pretrained("folder")
    with pytest.raises(ValueError, match="closed"):
        measure_layers(fuse(classifier()), images(vision_config()))
    with pytest.raises(ValueError, match="can be exported, not Linear"):
        export_model(torch.nn.Linear(2, 2), "model.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        export_model(classifier(), ".", "torch")
    with pytest.raises(ValueError, match="float32"):
        fuse(classifier().bfloat16())
    with pytest.raises(ValueError, match="torch or onnx"):
        export_model(classifier(), "model.onnx", "tflite")


@torch.no_grad()
def test_export_with_free_batch_and_size():
    model = classifier()
    program = export_program(model).module()
    for batch, size in ((1, (10, 14)), (2, IMAGE), (3, (40, 14))):
        pixels = images(model.config, batch=batch, size=size)
        expected = model(pixels, interpolate_pos_encoding=True).logits
        assert largest_difference(program(pixels), expected) <= 1e-5


@torch.no_grad()
def test_positions_that_are_spread_with_an_offset_are_exported_for_one_size():
    model = classifier(interpolate_offset=0.1)
    program = export_program(model).module()
    for batch in (1, 3):
        pixels = images(model.config, batch=batch)
        assert largest_difference(program(pixels), model(pixels).logits) <= 1e-5
    resampling = {"interpolate_pos_encoding": True}  # as an exporter of transformers calls a backbone
    traced = torch.export.export(model.crate, (pixels,), resampling).module()(pixels, **resampling)
    assert largest_difference(traced.last_hidden_state, model.crate(pixels).last_hidden_state) <= 1e-5


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11 says it of its own reading
@torch.no_grad()
def test_the_exported_file(tmp_path):
    model = classifier()
    path = tmp_path / "folder" / "model.pt2"
    assert export_model(model, path, "torch") == "pixel_values -> logits"
    pixels = images(model.config)
    assert largest_difference(torch.export.load(path).module()(pixels), model(pixels).logits) <= 1e-5
    assert [file.name for file in path.parent.iterdir()] == ["model.pt2"]


@torch.no_grad()
def test_onnx_in_onnx_runtime(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = classifier()
    export_model(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch, size in ((1, (10, 14)), (2, IMAGE), (3, (40, 14))):
        pixels = images(model.config, batch=batch, size=size)
        (logits,) = session.run(["logits"], {"pixel_values": pixels.numpy()})
        expected = model(pixels, interpolate_pos_encoding=True).logits
        assert largest_difference(torch.from_numpy(logits), expected) <= 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def served_by_onnx(path, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return {one.name: torch.from_numpy(tensor) for one, tensor in zip(session.get_outputs(), outputs, strict=True)}


@pytest.mark.parametrize(
    ("model_class", "names"),
    [
        (CrateModel, "last_hidden_state"),
        (CrateForCausalLM, "logits"),
        (CrateForMultipleChoice, "logits"),
        (CrateForQuestionAnswering, "start_logits, end_logits"),
    ],
)
@torch.no_grad()
def test_text_in_onnx_runtime(model_class, names, tmp_path):
    pytest.importorskip("onnxscript")
    config = TEXT[model_class](pad_token_id=1)
    model = rough(build(model_class, config))
    assert export_model(model, tmp_path / "model.onnx") == f"input_ids, attention_mask -> {names}"
    for batch, length in ((1, 4), (3, 9)):
        inputs = sentences(model_class, config, batch, length)
        expected = model(**inputs)
        outputs = served_by_onnx(tmp_path / "model.onnx", inputs)
        assert list(outputs) == names.split(", ")
        for name, tensor in outputs.items():
            assert largest_difference(tensor, expected[name]) <= 1e-5


@torch.no_grad()
def test_an_autoencoder_is_exported_as_its_encoder(tmp_path):
    pytest.importorskip("onnxscript")
    model = rough(build(CrateMAEForPreTraining, mae_config()))
    assert export_model(model, tmp_path / "model.onnx") == "pixel_values -> last_hidden_state"
    height, width = as_pair(model.config.patch_size)
    for size in (as_pair(model.config.image_size), (3 * height, 5 * width)):
        pixels = images(model.config, size=size)
        outputs = served_by_onnx(tmp_path / "model.onnx", {"pixel_values": pixels})
        expected = model.crate(pixels, interpolate_pos_encoding=True).last_hidden_state
        assert largest_difference(outputs["last_hidden_state"], expected) <= 1e-5


@pytest.mark.parametrize("offset", [0.0, 0.1])
@torch.no_grad()
def test_what_pools_a_square_is_exported_for_one_size(offset, tmp_path):
    pytest.importorskip("onnxscript")
    size = {"image_size": 24, "patch_size": 8, "num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 3}
    fields = {"compression": "cbsa", "patch_embedding": "conv_stem", "representatives": (2, 2)}
    config = vision_config(**size, **fields, head_dim=8, interpolate_offset=offset)
    model = rough(build(CrateForImageClassification, config))
    export_model(model, tmp_path / "model.onnx")
    for batch in (1, 3):
        pixels = images(config, batch=batch, size=(24, 24))
        outputs = served_by_onnx(tmp_path / "model.onnx", {"pixel_values": pixels})
        assert largest_difference(outputs["logits"], model(pixels).logits) <= 1e-5


@torch.no_grad()
def test_statistics_of_padding_alone_in_onnx_runtime(tmp_path):
    pytest.importorskip("onnxscript")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "vocab_size": 101}
    model = rough(
        build(TostForCausalLM, TostConfig(**sizes, max_position_embeddings=37, bos_token_id=3, eos_token_id=3))
    )
    export_model(model, tmp_path / "model.onnx")
    for batch, length in ((1, 4), (3, 9)):
        mask = torch.ones(batch, length, dtype=torch.long)
        mask[0, :2] = 0  # the sums over these tokens are 0, and are divided by
        inputs = {"input_ids": token_ids(batch, length), "attention_mask": mask}
        logits = served_by_onnx(tmp_path / "model.onnx", inputs)["logits"]
        assert logits.isfinite().all()  # of padding too: a second layer would carry it on
        assert largest_difference(logits[mask.bool()], model(**inputs).logits[mask.bool()]) <= 1e-5


@torch.no_grad()
def test_int8_weights():
    quantization = pytest.importorskip("torchao.quantization")
    model = classifier()
    pixels = images(model.config)
    logits = model(pixels).logits.clone()
    for quantized in (model, fuse(model)):
        quantization.quantize_(quantized, quantization.Int8WeightOnlyConfig())
        assert largest_difference(quantized(pixels).logits, logits) <= 0.1 * logits.abs().max()
