"""The layer-wise measures: the public script's numbers, closed forms, other people's models, awkward inputs."""

import math

import pytest
import torch
from reference import load_golden
from zoo import BASELINES, HEAD_DIM, HEADS, IMAGE, LABELS, PATCH, WIDTH, baseline, mae_model, text_model, vision_model

from crate_transformers import CRATE, convert_checkpoint
from crate_transformers.analysis import block_norms, coherence, measure_layers
from crate_transformers.analysis.statistics import RunningMoments

GOLDEN = {
    "crate_cls": {"num_attention_heads": 3},
    "crate_mean_rect": {
        "num_attention_heads": 2,
        "image_size": (24, 16),
        "patch_size": (8, 4),
        "num_channels": 1,
        "pool": "mean",
        "ista_step_size": 0.2,
    },
}


def all_finite(measures):
    return all(math.isfinite(value) for row in measures.rows() for value in row.values())


def inputs_of(model, images, token_ids):
    if "input_ids" in model.main_input_name:
        return token_ids
    return images[..., :28, :28] if model.config.model_type != "vit_mae" else torch.rand(4, 3, 28, 28)


@pytest.mark.parametrize("name", GOLDEN)
def test_official_mode_is_the_public_script(name):
    golden = load_golden(name)
    measures = measure_layers(convert_checkpoint(golden.state, **GOLDEN[name]), golden["pixel_values"])
    assert measures.coding_rate_mean == pytest.approx(golden["coding_rate_mean"].tolist(), rel=1e-5)
    zeros = [1 - fraction for fraction in measures.nonzero_fraction_mean]
    assert zeros == pytest.approx(golden["zero_fraction"].tolist(), abs=1e-7)


@pytest.mark.parametrize("mode", ["official", "paper"])
def test_equals_the_n_by_n_form_by_hand(mode, images):
    model, epsilon = vision_model(), 0.3
    measures = measure_layers(model, images, mode, epsilon=epsilon)
    with torch.no_grad():
        out = model(
            images,
            output_hidden_states=True,
            output_half_hidden_states=True,
            output_subspace_projections=True,
            output_codes=True,
        )
    for index, layer in enumerate(model.crate.layers):
        if mode == "official":
            tokens = torch.nn.functional.normalize(layer.compression.norm(out.hidden_states[index]), dim=-1)
            projected = out.subspace_projections[index]
        else:
            tokens = out.half_hidden_states[index]
            projected = tokens @ layer.compression.attention.subspaces.weight.T
        tokens, samples = tokens.double(), []
        for sample, z in zip(projected.double(), tokens, strict=True):
            rate = 0.0
            for w in sample.split(HEAD_DIM, dim=-1):  # (N, p)
                w = torch.nn.functional.normalize(w, dim=-1) if mode == "official" else w
                rate += 0.5 * torch.logdet(torch.eye(16) + HEAD_DIM / (16 * epsilon**2) * w @ w.T).item()
            whole = 0.5 * torch.logdet(torch.eye(16) + WIDTH / (16 * epsilon**2) * z @ z.T).item()
            samples.append((rate, whole))
        rates, wholes = torch.tensor(samples, dtype=torch.float64).T
        assert measures.coding_rate_mean[index] == pytest.approx(rates.mean().item(), rel=1e-4)
        assert measures.coding_rate_std[index] == pytest.approx(rates.std().item(), rel=1e-3)
        assert measures.rate_mean[index] == pytest.approx(wholes.mean().item(), rel=1e-4)
        assert measures.rate_reduction_mean[index] == pytest.approx((wholes - rates).mean().item(), rel=1e-3)
        count = (out.codes[index] != 0).sum(dim=(1, 2)).double()
        objective = (wholes - rates - 0.1 * count).mean().item()
        assert measures.sparse_rate_reduction_mean[index] == pytest.approx(objective, rel=1e-4)
        fraction = count / (16 * WIDTH)
        assert measures.nonzero_fraction_std[index] == pytest.approx(fraction.std(correction=0).item(), rel=1e-4)


def test_streams_batches_loaders_and_dictionaries_alike(images):
    model = vision_model()
    whole = measure_layers(model, images)
    for inputs in (
        {"pixel_values": images, "labels": torch.zeros(4)},
        iter([images[:3], images[3:]]),
        [{"pixel_values": image[None]} for image in images],
        [(images[:1], torch.zeros(1)), (images[1:], torch.zeros(3))],
    ):
        streamed = measure_layers(model, inputs, batch_size=2)
        assert streamed.num_samples == 4
        for row, expected in zip(streamed.rows(), whole.rows(), strict=True):
            assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mode", ["official", "paper"])
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_have_value_projections_for_subspaces(name, mode, images, token_ids):
    model = baseline(name)
    inputs = inputs_of(model, images, token_ids)
    if name == "vit":
        inputs = images
    measures = measure_layers(model, inputs, mode)
    assert len(measures) == 2
    assert all_finite(measures)
    assert min(measures.coding_rate_mean) > 0
    again = measure_layers(model, inputs, mode)
    assert again.coding_rate_mean == measures.coding_rate_mean  # the hooks are there once, masks are not drawn


@pytest.mark.parametrize("mode", ["official", "paper"])
def test_autoencoder_and_its_decoder(mode, images):
    model = mae_model(num_channels=3)
    encoder, decoder = measure_layers(model, images, mode), measure_layers(model, images, mode, part="decoder")
    assert (len(encoder), len(decoder)) == (2, 3)
    assert len(decoder.subspace_block_norms[0]) == 2
    assert all_finite(encoder)
    assert all_finite(decoder)


@pytest.mark.parametrize("mode", ["official", "paper"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_not_count(causal, mode, token_ids):
    model = text_model(causal=causal)
    short = token_ids[:1, :7]
    pad = torch.ones(1, 10, dtype=torch.long)
    padded = torch.cat([torch.cat([short, pad], dim=1), token_ids[1:2]])
    mask = torch.ones_like(padded)
    mask[0, 7:] = 0
    both = measure_layers(model, {"input_ids": padded, "attention_mask": mask}, mode)
    alone = [measure_layers(model, ids, mode) for ids in (short, token_ids[1:2])]
    for column in ("coding_rate_mean", "rate_mean", "nonzero_fraction_mean", "sparse_rate_reduction_mean"):
        mean = [(a + b) / 2 for a, b in zip(*(getattr(m, column) for m in alone), strict=True)]
        assert getattr(both, column) == pytest.approx(mean, rel=1e-4)


def test_overcomplete_codes_are_counted(token_ids):
    model = text_model(causal=True, dictionary_ratio=4, ista_steps=2, final_layer_norm=True)
    measures = measure_layers(model, token_ids)
    assert all_finite(measures)
    assert max(measures.nonzero_fraction_mean) < 1


@pytest.mark.parametrize("mode", ["official", "paper"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_for_one_image_zero_images_one_token_and_half_precision(dtype, mode):
    model = vision_model().to(dtype)
    one = measure_layers(model, torch.zeros(1, 3, *IMAGE), mode)
    assert all_finite(one)
    assert set(one.coding_rate_std) == {0.0}
    text = text_model().to(dtype)
    assert all_finite(measure_layers(text, torch.tensor([[7]]), mode))
    with torch.no_grad():  # zero tokens: nothing is left after the first layer
        model.crate.layers[0].sparsification.coding.sparsity_weight = 1e5
        for layer in model.crate.layers:
            layer.compression.norm.bias.zero_()
    measures = measure_layers(model, torch.rand(2, 3, *IMAGE), mode)
    assert all_finite(measures)
    assert measures.nonzero_fraction_mean[0] == 0
    if mode == "official":
        assert measures.coding_rate_mean[1] == 0


def test_long_tokens_of_low_rank_stay_positive_definite(images):
    model = vision_model()
    with torch.no_grad():
        model.crate.layers[0].compression.attention.output.bias.fill_(1e4)  # all tokens nearly equal and long
    assert all_finite(measure_layers(model, images, "paper"))


def test_the_model_is_left_as_it_was(images):
    model = vision_model().train()
    model.crate.layers[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    measure_layers(model, images)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert model(images).get("codes") is None


def test_wrapped_models(images):
    net = CRATE(
        image_size=IMAGE, patch_size=PATCH, num_classes=LABELS, dim=WIDTH, depth=2, heads=HEADS, dim_head=HEAD_DIM
    )
    inside = measure_layers(net.model, images)
    assert measure_layers(net, images).coding_rate_mean == inside.coding_rate_mean


def test_coherence_of_orthogonal_and_equal_subspaces():
    basis = torch.linalg.qr(torch.randn(15, 15, generator=torch.Generator().manual_seed(2)))[0]
    assert coherence(block_norms(basis, 3)) == pytest.approx(0, abs=1e-6)
    equal = basis[:5].repeat(3, 1)
    assert coherence(block_norms(equal, 3)) == pytest.approx(1, abs=1e-6)
    assert coherence(block_norms(basis, 1)) == 0
    assert block_norms(basis, 3).diagonal().tolist() == pytest.approx([5**0.5] * 3)


def test_running_moments_equal_those_of_the_whole():
    values = torch.randn(23, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 100
    moments = RunningMoments()
    for part in values.split(7):
        moments.update(part)
    assert torch.allclose(moments.mean, values.mean(dim=0), rtol=1e-12)
    assert torch.allclose(moments.std(bessel=True), values.std(dim=0), rtol=1e-10)
    assert torch.allclose(moments.std(bessel=False), values.std(dim=0, correction=0), rtol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "offical"}, "'official' or 'paper'"),
        ({"part": "decoder"}, "decoder"),
        ({"part": "middle"}, "encoder"),
        ({"inputs": torch.zeros(0, 3, *IMAGE)}, "no sample"),
        ({"inputs": []}, "no sample"),
        ({"inputs": ["a"]}, "tensor"),
        ({"inputs": torch.zeros(1, 3, 4, 35)}, "smaller than one patch"),
        ({"inputs": torch.zeros(1, dtype=torch.long)}, "none of the given inputs"),
        ({"inputs": torch.full((1, 3, *IMAGE), math.nan)}, "not finite"),
        ({"model": torch.nn.Linear(2, 2)}, "Linear"),
    ],
)
def test_bad_input_is_named(arguments, message, images):
    with pytest.raises(ValueError, match=message):
        measure_layers(**{"model": vision_model(), "inputs": images, **arguments})
