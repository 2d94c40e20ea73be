"""ToST, CBT and AoT, converted, give the public code's numbers to 1e-5; AoT has no public code, its layout is ours."""

import pytest
import torch
from reference import largest_difference, load_golden

from crate_transformers import convert_checkpoint
from crate_transformers.analysis import measure_layers
from crate_transformers.ops import use_forms
from crate_transformers.upstream import CACHE

CHOICES = [("eager", "equation"), ("eager", "all"), ("sdpa", "all")]
VISION = {
    "tost_patch16": {},
    "tost_patch8_rect": {},
    "tost_class_norm_only": {"normalize_all_tokens": False, "position_embedding": False},
    "tost_small_tokens": {},
    "cbt_patch8": {},
    "cbt_patch16_mean": {"pool": "mean"},
    "cbt_training": {},
    "cbt_shell_mssa": {"num_attention_heads": 3},
    "cbt_shell_tssa": {},
    "aot_vision": {"num_attention_heads": 3},
    "aot_vision_no_norm": {"num_attention_heads": 5, "pool": "mean"},
}
TEXT = {"tost_lm": {}, "tost_lm_bias": {}, "tost_lm_small_tokens": {}, "aot_lm": {"num_attention_heads": 2}}


def converted(name, attention="sdpa", **overrides):
    golden = load_golden(name)
    model = convert_checkpoint(golden.state, **{**VISION, **TEXT}[name], **overrides)
    model.set_attn_implementation(attention)
    return golden, model


@pytest.mark.parametrize(("attention", "forms"), CHOICES)
@pytest.mark.parametrize("name", [*VISION, *TEXT])
@torch.no_grad()
def test_logits(name, attention, forms):
    golden, model = converted(name, attention)
    with use_forms(forms):
        logits = model(golden["pixel_values"] if name in VISION else golden["input_ids"]).logits
    assert largest_difference(logits, golden["logits"]) <= 1e-5


@pytest.mark.parametrize("name", ["tost_patch16", "tost_patch8_rect", "tost_lm", "tost_lm_bias"])
@torch.no_grad()
def test_inside_tost(name):
    golden, model = converted(name)
    inputs = golden["pixel_values"] if name in VISION else golden["input_ids"]
    outputs = model(inputs, output_hidden_states=True, output_memberships=True, output_subspace_projections=True)
    assert largest_difference(outputs.memberships[0].mT, golden["intermediate/membership_0"]) <= 1e-6
    assert largest_difference(outputs.subspace_projections[0], golden["intermediate/subspace_projection_0"]) <= 1e-5
    embedded = "intermediate/embeddings" if name in TEXT else "intermediate/stem"
    if name in TEXT:
        assert largest_difference(outputs.hidden_states[0], golden[embedded]) <= 1e-5
    else:
        stem = model.crate.embeddings.patch_embeddings(inputs)
        assert largest_difference(stem, golden[embedded]) <= 1e-5
        positions = golden["intermediate/position_encoding_bchw"].flatten(2).mT
        assert largest_difference(outputs.hidden_states[0] - stem, positions) <= 1e-5


@torch.no_grad()
def test_the_state_of_tost():
    golden, model = converted("tost_lm")
    cache = None
    for piece in golden["input_ids"].split([7, 1, 1, 10], dim=1):
        cache = model(piece, cache=cache, use_cache=True)[CACHE]
    kept = cache.layers[0].statistics
    names = ("sum_of_squares", "weighted_sum_of_squares", "sum_of_membership")
    for ours, name in zip(kept, names, strict=True):
        assert largest_difference(ours, golden[f"state/{name}_0"]) <= 1e-5
    d, heads = golden.config["n_embd"], golden.config["n_head"]
    assert sum(tensor[0].numel() for tensor in kept) == 2 * d + heads


@pytest.mark.parametrize("name", ["cbt_patch8", "cbt_patch16_mean", "cbt_shell_mssa"])
@torch.no_grad()
def test_inside_cbt(name):
    golden, model = converted(name)
    outputs = model(golden["pixel_values"], output_attentions=True, output_hidden_states=True)
    [layer] = [int(key.split("_")[1].split("/")[0]) for key in golden.tensors if key.endswith("attention_map")]
    assert largest_difference(outputs.attentions[layer], golden[f"layer_{layer}/attention_map"]) <= 1e-5
    for number, tokens in enumerate(outputs.hidden_states[1:]):
        assert largest_difference(tokens, golden[f"layer_{number}/next"]) <= 1e-5


@torch.no_grad()
def test_cbt_at_another_size():
    golden, model = converted("cbt_patch16_mean")
    pictures = golden["pixel_values_other_size"]
    tokens = model.crate(pictures, interpolate_pos_encoding=True).last_hidden_state
    assert largest_difference(tokens, golden["features_other_size"]) <= 1e-5


def test_cbt_in_training():
    golden, model = converted("cbt_training")
    model.train()
    outputs = model(golden["pixel_values"])
    loss = torch.nn.functional.cross_entropy(outputs.logits, torch.arange(3) % 3, label_smoothing=0.1)
    loss.backward()
    assert largest_difference(outputs.logits, golden["train/logits"]) <= 1e-5
    assert largest_difference(loss, golden["train/loss"]) <= 1e-5
    layer, stem = model.crate.layers[0], model.crate.embeddings.patch_embeddings.stages
    before = "transformer.layers.0"
    for ours, name in (
        (layer.compression.attention.subspaces.weight, f"{before}.0.fn.proj.weight"),
        (layer.compression.attention.step_tokens, f"{before}.0.fn.step_x"),
        (layer.compression.attention.step_representatives, f"{before}.0.fn.step_rep"),
        (layer.compression.attention.output.weight, f"{before}.0.fn.to_out.weight"),
        (layer.sparsification.coding.dictionary, f"{before}.1.fn.weight"),
        (stem[0].convolution.weight, "to_patch_embedding.proj.0.0.weight"),
        (model.crate.embeddings.cls_token, "cls_token"),
    ):
        assert largest_difference(ours.grad, golden[f"train/grad/{name}"]) <= 1e-5
    for stage in range(3):
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            after = golden[f"train/after/to_patch_embedding.proj.{2 * stage}.1.{name}"]
            assert largest_difference(getattr(stem[stage].norm, name), after) <= 1e-6


def test_tost_in_training():
    golden, model = converted("tost_patch16")
    logits = model.train()(golden["pixel_values"]).logits
    assert largest_difference(logits, golden["logits_train"]) <= 1e-5
    norm = model.crate.embeddings.patch_embeddings.stages[0].norm
    assert largest_difference(norm.running_mean, golden["after_train/patch_embed.proj.0.1.running_mean"]) <= 1e-6


def test_rates_of_cbt_are_the_public_scripts():
    golden, model = converted("cbt_training")
    measures = measure_layers(model, golden["pixel_values"], "official")
    zeros = [1 - fraction for fraction in measures.nonzero_fraction_mean]
    assert zeros == pytest.approx(golden["measures/zero_fraction"].tolist(), abs=1e-6)


@pytest.mark.parametrize("name", ["tost_patch16", "tost_lm", "cbt_patch16_mean", "aot_vision"])
def test_saved_and_loaded(name, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForImageClassification

    golden, model = converted(name)
    model.save_pretrained(tmp_path)
    auto = AutoModelForCausalLM if name in TEXT else AutoModelForImageClassification
    again = auto.from_pretrained(tmp_path).eval()
    inputs = golden["input_ids"] if name in TEXT else golden["pixel_values"]
    with torch.no_grad():
        assert largest_difference(again(inputs).logits, golden["logits"]) <= 1e-5
