"""The trace: every tensor is the one that it is called, in every architecture; the model is left as it was."""

import pickle

import pytest
import torch
from zoo import BASELINES, GRID, HEAD_DIM, HEADS, IMAGE, NEURONS, WIDTH, baseline, mae_model, text_model, vision_model

from crate_transformers.analysis import trace, trace_batches
from crate_transformers.analysis.tracing import RECORDS


def test_crate_layers_reproduce_their_own_steps(images):
    model = vision_model()
    record = trace(model, images)
    assert record.grid == GRID
    assert len(record) == 4
    assert len(record.layers) == 2
    with torch.no_grad():
        for layer, module in zip(record.layers, model.crate.layers, strict=True):
            assert layer.tokens_in.shape == layer.tokens_out.shape == (4, 16, WIDTH)
            assert torch.equal(layer.compression_inputs, module.compression.norm(layer.tokens_in))
            projected = module.compression.attention.subspaces(layer.compression_inputs)
            assert layer.projections.shape == (4, HEADS, 16, HEAD_DIM)
            assert torch.equal(layer.projections[:, 2], projected[..., 2 * HEAD_DIM :])
            scores = layer.projections @ layer.projections.mT * HEAD_DIM**-0.5
            assert torch.allclose(layer.attention, scores.softmax(dim=-1), atol=1e-6)
            assert torch.allclose(layer.half_tokens, module.compression(layer.tokens_in), atol=1e-5)
            assert torch.allclose(layer.tokens_out, module.sparsification(layer.half_tokens), atol=1e-5)
            assert torch.equal(layer.codes, layer.tokens_out)
    assert torch.equal(record.layers[0].tokens_out, record.layers[1].tokens_in)


def mlp_step(name, layer, half):
    if name in ("vit", "vit_mae"):
        return half + layer.mlp(layer.layernorm_after(half))
    if name == "bert":
        return layer.output(layer.intermediate(half), half)
    return half + layer.mlp(layer.ln_2(half))


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_layers_reproduce_their_own_steps(name, images, token_ids):
    model = baseline(name)
    inputs = {"vit": images, "vit_mae": torch.rand(4, 3, 28, 28)}.get(name, token_ids)
    record = trace(model, inputs)
    backbone = model.base_model
    layers = {"vit": "layers", "vit_mae": "layers", "gpt2": "h"}.get(name)
    layers = getattr(backbone, layers) if layers else backbone.encoder.layer
    num_tokens = {"vit": 16, "vit_mae": 17}.get(name, 17)
    with torch.no_grad():
        for layer, module in zip(record.layers, layers, strict=True):
            half = layer.half_tokens
            assert torch.allclose(mlp_step(name, module, half), layer.tokens_out, atol=1e-5)
            assert layer.codes.shape == (4, num_tokens, NEURONS)
            mixed = (layer.attention @ layer.projections).transpose(1, 2).flatten(2)  # the projections are the values
            output = {"bert": lambda m: m.attention.output.dense, "gpt2": lambda m: m.attn.c_proj}.get(
                name, lambda m: m.attention.o_proj
            )(module)
            if name == "bert":
                expected = module.attention.output.LayerNorm(output(mixed) + layer.tokens_in)
            else:
                expected = layer.tokens_in + output(mixed)
            assert torch.allclose(half, expected, atol=1e-5)


def test_decoder_of_the_autoencoder(images):
    model = mae_model(num_channels=3)
    record = trace(model, images, part="decoder")
    encoded = trace(model, images)
    assert len(record.layers) == 3
    assert record.layers[0].projections.shape == (4, 2, 16, 10)
    assert record.layers[0].attention.shape == (4, 2, 16, 16)
    with torch.no_grad():
        assert torch.allclose(record.layers[0].tokens_in, model.crate.norm(encoded.layers[-1].tokens_out), atol=1e-5)
        for layer, module in zip(record.layers, model.decoder.layers, strict=True):
            assert torch.allclose(layer.tokens_out, module(layer.tokens_in), atol=1e-4)


def test_attention_switches_to_eager_and_says_so(images, caplog):
    model = vision_model()
    model.set_attn_implementation("sdpa")
    record = trace(model, images, ("attention",))
    assert record.layers[0].attention.sum(dim=-1).allclose(torch.ones(4, 3, 16))
    assert "eager" in caplog.text
    assert model.config._attn_implementation == "sdpa"
    caplog.clear()
    model.set_attn_implementation("eager")
    trace(model, images, ("attention",))
    assert caplog.text == ""


def test_only_what_was_asked_for_is_recorded_once(images):
    model = vision_model()
    for _ in range(2):
        record = trace(model, images, ("codes",))
        assert [name for name in vars(record.layers[0]) if getattr(record.layers[0], name) is not None] == ["codes"]
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    trace(model, images)
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks


def test_hooks_of_another_model_of_the_class_do_not_disturb(images):
    first, second = vision_model(), vision_model()
    trace(first, images)
    plain = second(images, output_hidden_states=True)
    assert len(plain.hidden_states) == 3
    assert len(trace(second, images).layers) == 2


def test_last_tokens_are_before_the_final_norm(token_ids):
    model = text_model(causal=True, dictionary_ratio=2, final_layer_norm=True)
    record = trace(model, token_ids, ("tokens",))
    with torch.no_grad():
        last = model.crate(token_ids).last_hidden_state
        assert torch.allclose(model.crate.norm(record.layers[-1].tokens_out), last, atol=1e-5)


def test_any_image_size(images):
    record = trace(vision_model(), torch.rand(2, 3, 45, 30), ("attention",))
    assert record.grid == (9, 4)
    assert record.layers[0].attention.shape == (2, 3, 37, 37)


def test_stream_holds_one_batch(images):
    sizes = [len(record) for record in trace_batches(vision_model(), images, ("codes",), batch_size=3)]
    assert sizes == [3, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"records": ("attentions",)}, RECORDS[0]),
        ({"inputs": [torch.zeros(1, 3, *IMAGE)] * 2}, "trace_batches"),
    ],
)
def test_bad_input_is_named(arguments, message, images):
    with pytest.raises(ValueError, match=message):
        trace(**{"model": vision_model(), "inputs": images, **arguments})


@pytest.mark.parametrize(
    "make",
    [vision_model, text_model, lambda: mae_model(num_channels=3), lambda: baseline("vit"), lambda: baseline("gpt2")],
)
def test_a_trace_takes_away_what_it_installed(make):
    model = make()
    inputs = torch.randn(2, 3, *IMAGE) if model.main_input_name == "pixel_values" else torch.arange(10).view(2, 5)
    first = trace(model, inputs)
    assert not any(part._forward_hooks for part in model.modules())
    again = trace(pickle.loads(pickle.dumps(model)), inputs)
    for one, other in zip(first.layers, again.layers, strict=True):
        assert torch.equal(one.tokens_out, other.tokens_out)
