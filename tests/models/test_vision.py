"""The image models: records, sizes, precisions, checkpointing, compiling, exporting, the pipeline."""

import pytest
import torch
from accelerate import cpu_offload
from PIL import Image
from transformers import AutoModelForImageClassification, ViTImageProcessor, pipeline
from zoo import (
    BATCH,
    HEADS,
    IMAGE,
    LAYERS,
    PATCHES,
    WIDTH,
    build,
    enable_checkpointing,
    gradients,
    images,
    vision_config,
)

from crate_transformers import CrateForImageClassification, CrateVisionConfig, CrateVisionModel


@pytest.fixture(scope="module")
def config():
    return vision_config()


@pytest.fixture
def model(config):
    return build(CrateForImageClassification, config)


@torch.no_grad()
def test_what_is_recorded(config):
    model = build(CrateForImageClassification, config, attn_implementation="eager")
    outputs = model(
        images(config),
        output_hidden_states=True,
        output_attentions=True,
        output_half_hidden_states=True,
        output_subspace_projections=True,
        output_codes=True,
    )
    tokens = PATCHES + 1
    assert [h.shape for h in outputs.hidden_states] == [(BATCH, tokens, WIDTH)] * (LAYERS + 1)
    assert [a.shape for a in outputs.attentions] == [(BATCH, HEADS, tokens, tokens)] * LAYERS
    assert len(outputs.half_hidden_states) == len(outputs.subspace_projections) == len(outputs.codes) == LAYERS
    for index, layer in enumerate(model.crate.layers):
        torch.testing.assert_close(outputs.half_hidden_states[index], layer.compression(outputs.hidden_states[index]))
        torch.testing.assert_close(
            outputs.hidden_states[index + 1], layer.sparsification(outputs.half_hidden_states[index])
        )
        torch.testing.assert_close(outputs.codes[index], outputs.hidden_states[index + 1])
    silent = model(images(config))
    assert set(silent) == {"logits"}


@torch.no_grad()
def test_the_pool_is_the_class_token_or_the_mean_over_all_tokens():
    pixels = images(vision_config())
    for pool in ("cls", "mean"):
        model = build(CrateVisionModel, vision_config(pool=pool))
        outputs = model(pixels)
        expected = outputs.last_hidden_state[:, 0] if pool == "cls" else outputs.last_hidden_state.mean(dim=1)
        torch.testing.assert_close(outputs.pooler_output, expected)


@pytest.mark.parametrize("attention", ["sdpa", "torch_sdpa", "eager", "mssa"])
def test_the_last_layer_makes_the_class_token_alone_unless_a_hook_looks(config, attention):
    model = build(CrateForImageClassification, config, attn_implementation=attention)
    inputs, seen = {"pixel_values": images(config), "labels": torch.tensor([1, 10])}, []

    def tokens_of(output):
        return getattr(output, "last_hidden_state", output).shape[1]

    logits, alone = model(**inputs).logits, gradients(model, **inputs)
    assert model.crate(inputs["pixel_values"]).last_hidden_state.shape[1] == PATCHES + 1
    assert model.crate(inputs["pixel_values"], num_read=1).last_hidden_state.shape[1] == 1
    for part in (model.crate, model.crate.layers[-1], model.crate.layers[-1].sparsification.coding):
        hook = part.register_forward_hook(lambda part, inputs, output: seen.append(tokens_of(output)))
        torch.testing.assert_close(model(**inputs).logits, logits)
        for name, gradient in gradients(model, **inputs).items():
            torch.testing.assert_close(gradient, alone[name], msg=name)
        hook.remove()
    assert seen == [PATCHES + 1] * 6


@torch.no_grad()
def test_weights_that_are_elsewhere_until_their_module_is_called(model, config):
    logits = model(images(config)).logits
    offloaded = cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.crate.layers[-1].compression.attention.subspaces.weight.is_meta
    torch.testing.assert_close(offloaded(images(config)).logits, logits)


@torch.no_grad()
def test_the_mean_of_the_tokens_needs_them_all():
    model = build(CrateForImageClassification, vision_config(pool="mean"))
    tokens = model.crate(images(model.config)).last_hidden_state
    expected = model.classifier(model.norm(tokens.mean(dim=1)))
    torch.testing.assert_close(model(images(model.config)).logits, expected)


@torch.no_grad()
def test_other_sizes_by_interpolation(model, config):
    small = images(config, size=(15, 28))
    with pytest.raises(ValueError, match="interpolate_pos_encoding=True"):
        model(small)
    outputs = model.crate(small, interpolate_pos_encoding=True)
    assert outputs.last_hidden_state.shape == (BATCH, 1 + 3 * 4, WIDTH)
    torch.testing.assert_close(
        model(images(config), interpolate_pos_encoding=True).logits, model(images(config)).logits
    )


@pytest.mark.parametrize(
    ("labels", "message"), [(torch.tensor([0, 11]), r"\[0, 11\).*got 11"), (torch.tensor([-1, 3]), "got -1")]
)
def test_a_label_out_of_range_is_named(model, config, labels, message):
    with pytest.raises(ValueError, match=message):
        model(images(config), labels=labels)


def test_no_image_is_an_error(model):
    with pytest.raises(ValueError, match="pixel_values"):
        model()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_is_close(model, config, dtype):
    expected = model(images(config)).logits
    half = model.to(dtype)(images(config).to(dtype)).logits
    assert half.dtype == dtype
    tolerance = 0.05 if dtype == torch.float16 else 0.3
    torch.testing.assert_close(half.float(), expected, atol=tolerance, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = model.float()(images(config)).logits
    torch.testing.assert_close(autocast.float(), expected, atol=0.3, rtol=0)


def test_checkpointing_gives_the_same_gradients(model, config):
    inputs = {"pixel_values": images(config), "labels": torch.tensor([1, 10])}
    model.train()
    expected = gradients(model, **inputs)
    enable_checkpointing(model)
    assert all(layer.gradient_checkpointing for layer in model.crate.layers)
    for name, gradient in gradients(model, **inputs).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
        assert gradient.abs().sum() > 0, name


@torch.no_grad()
def test_compiles_as_one_graph(model, config):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for size, interpolate in ((IMAGE, False), ((20, 21), True)):
        pixels = images(config, size=size)
        torch.testing.assert_close(
            compiled(pixels, interpolate_pos_encoding=interpolate).logits,
            model(pixels, interpolate_pos_encoding=interpolate).logits,
        )


@torch.no_grad()
def test_compiled_it_refuses_what_it_refuses_else(model, config):
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    with pytest.raises(ValueError, match=r"16 x 21 pixels cannot be cut into patches of 5 x 7"):
        compiled(images(config, size=(16, 21)), interpolate_pos_encoding=True)


@torch.no_grad()
def test_exports_with_any_batch(model, config):
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model, (images(config),), dynamic_shapes={"pixel_values": batch}, strict=False)
    for count in (2, 5):
        pixels = images(config, batch=count)
        torch.testing.assert_close(program.module()(pixels).logits, model(pixels).logits)


def test_a_saved_folder_serves_the_pipeline(model, config, tmp_path):
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 15, "width": 35}).save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(loaded) is CrateForImageClassification
    with torch.no_grad():
        torch.testing.assert_close(loaded(images(config)).logits, model(images(config)).logits)
    scores = pipeline("image-classification", model=str(tmp_path))(Image.new("RGB", (40, 30), "red"), top_k=11)
    assert sum(score["score"] for score in scores) == pytest.approx(1, abs=1e-4)
    assert {score["label"] for score in scores} == {f"LABEL_{index}" for index in range(11)}


def test_the_backbone_loads_into_the_classifier_and_back(model, config, tmp_path):
    model.save_pretrained(tmp_path / "classifier")
    backbone = CrateVisionModel.from_pretrained(tmp_path / "classifier")
    backbone.save_pretrained(tmp_path / "backbone")
    again = CrateForImageClassification.from_pretrained(tmp_path / "backbone", num_labels=5)
    assert again.classifier.out_features == 5
    for name, parameter in again.crate.named_parameters():
        assert torch.equal(parameter, model.crate.get_parameter(name)), name


@pytest.mark.parametrize(
    "fields",
    [
        {"dictionary_ratio": 4, "ista_steps": 2},
        {"dictionary_ratio": 4, "ista_steps": 2, "tie_dictionary": False, "ista_residual": True},
    ],
)
def test_the_overcomplete_family_by_configuration(fields, tmp_path):
    config = vision_config(**fields)
    model = build(CrateForImageClassification, config)
    for name, gradient in gradients(model, pixel_values=images(config), labels=torch.tensor([1, 2])).items():
        assert gradient.abs().sum() > 0, name
    model.save_pretrained(tmp_path)
    loaded = CrateForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.dictionary_ratio == 4
    with torch.no_grad():
        outputs = loaded(images(config), output_codes=True)
        torch.testing.assert_close(outputs.logits, model(images(config)).logits)
    assert outputs.codes[0].shape == (BATCH, PATCHES + 1, 4 * WIDTH)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("tiny", 6_090_856), ("small", 13_116_328), ("base", 22_796_008), ("large", 77_641_192)],
)
def test_parameter_counts_are_the_published_ones(size, parameters):
    with torch.device("meta"):
        model = CrateForImageClassification(CrateVisionConfig.from_size(size, num_labels=1000))
    assert model.num_parameters() == parameters
