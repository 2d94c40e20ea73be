"""The public checkpoints, converted, give the public code's numbers to 1e-5."""

import pytest
import torch
from reference import largest_difference, load_golden

from crate_transformers import convert_checkpoint
from crate_transformers.objective import sparsity, subspace_coding_rate

ATTENTION = ["eager", "sdpa"]
VISION = {
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


def converted(name, attention, **overrides):
    golden = load_golden(name)
    model = convert_checkpoint(golden.state, **overrides)
    model.set_attn_implementation(attention)
    return golden, model


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", VISION)
@torch.no_grad()
def test_vision(name, attention):
    golden, model = converted(name, attention, **VISION[name])
    outputs = model(
        golden["pixel_values"], output_hidden_states=True, output_subspace_projections=True, output_codes=True
    )
    assert largest_difference(outputs.logits, golden["logits"]) <= 1e-5
    for layer, hidden_states in enumerate(outputs.hidden_states[1:]):
        assert largest_difference(hidden_states, golden[f"layer_output/{layer}"]) <= 1e-5
    heads = model.config.num_attention_heads
    for layer, (projected, code) in enumerate(zip(outputs.subspace_projections, outputs.codes, strict=True)):
        by_head = projected.unflatten(-1, (heads, -1)).transpose(1, 2)
        rate = subspace_coding_rate(by_head, epsilon=0.1, mode="official").mean()
        assert rate.item() == pytest.approx(golden["coding_rate_mean"][layer].item(), rel=1e-4)
        zero_fraction = 1 - sparsity(code).mean()
        assert zero_fraction.item() == pytest.approx(golden["zero_fraction"][layer].item(), abs=1e-6)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize(
    ("name", "overrides"),
    [("crate_mae", {}), ("crate_mae_normpix", {"ista_lambda": 5.0, "norm_pix_loss": True, "mask_ratio": 0.5})],
)
@torch.no_grad()
def test_masked_autoencoder(name, overrides, attention):
    golden, model = converted(name, attention, num_attention_heads=3, **overrides)
    outputs = model(golden["pixel_values"], noise=golden["noise"])
    assert largest_difference(outputs.loss, golden["loss"]) <= 1e-5
    assert largest_difference(outputs.logits, golden["pred"]) <= 1e-5
    assert torch.equal(outputs.mask, golden["mask"])
    latent = model.crate(golden["pixel_values"], noise=golden["noise"]).last_hidden_state
    assert largest_difference(latent, golden["latent"]) <= 1e-5
    if attention == "eager":
        attentions = model.crate(golden["pixel_values"], output_attentions=True).attentions
        assert largest_difference(attentions[-1], golden["attention_encoder_last"]) <= 1e-5


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", ["crate_text_mlm", "crate_text_cls"])
@torch.no_grad()
def test_text_encoder(name, attention):
    heads = load_golden(name).config["num_attention_heads"]
    golden, model = converted(name, attention, num_attention_heads=heads)
    outputs = model(golden["input_ids"], attention_mask=golden["attention_mask"], output_hidden_states=True)
    real = golden["attention_mask"].bool()
    assert not real.all()  # the batch is padded, or this test shows nothing
    for layer, hidden_states in enumerate(outputs.hidden_states):
        assert largest_difference(hidden_states[real], golden[f"hidden_states/{layer}"][real]) <= 1e-5
    if name == "crate_text_mlm":
        assert largest_difference(outputs.logits[real], golden["logits"][real]) <= 1e-5
    else:
        assert largest_difference(outputs.logits, golden["logits"]) <= 1e-5


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("name", ["crate_gpt", "crate_gpt_overcomplete"])
@torch.no_grad()
def test_causal_language_model(name, attention):
    golden, model = converted(name, attention, num_attention_heads=3)
    logits = model(golden["input_ids"]).logits
    assert largest_difference(logits, golden["logits"]) <= 1e-5
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), golden["input_ids"].flatten())
    assert largest_difference(loss, golden["loss_unshifted"]) <= 1e-5
