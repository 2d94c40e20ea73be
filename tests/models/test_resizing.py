"""Weights of one image or patch size in a model of another: what is resampled or drawn anew, and that it is said."""

import logging

import pytest
import torch
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForPreTraining
from zoo import IMAGE, build, images, mae_config, vision_config

from crate_transformers import (
    CrateForImageClassification,
    CrateMAEForPreTraining,
    CrateMAEModel,
    CrateVisionModel,
    TostForImageClassification,
    TostVisionConfig,
)
from crate_transformers.layers import sincos_positions

LOGGER = "crate_transformers.models.resizing"
CBT = {
    "hidden_size": 24, "num_attention_heads": 3, "head_dim": 8, "image_size": 40, "patch_size": 8,
    "patch_embedding": "conv_stem", "compression": "cbsa", "interpolate_offset": 0.1,
}  # fmt: skip
CASES = {  # fields of the saved model, the other image size, grids
    "normalized": ({}, (25, 21), "3 x 5 to 5 x 3"),
    "convolution": ({"patch_embedding": "convolution", "pool": "mean"}, (10, 49), "3 x 5 to 2 x 7"),
    "cbt": (CBT, 56, "5 x 5 to 7 x 7"),
}


@pytest.fixture(params=CASES)
def saved(request, tmp_path):
    """(folder, model, other image size, grids)."""
    fields, size, grids = CASES[request.param]
    model = build(CrateForImageClassification, vision_config(**fields))
    model.save_pretrained(tmp_path)
    return tmp_path, model, size, grids


def pictures(size, batch=2):
    sides = (size, size) if isinstance(size, int) else size
    return torch.randn(batch, 3, *sides, generator=torch.Generator().manual_seed(4))


@torch.no_grad()
@pytest.mark.parametrize("kind", [CrateForImageClassification, AutoModelForImageClassification])
def test_the_numbers_are_those_of_resampled_positions(saved, kind, caplog):
    folder, model, size, grids = saved
    with caplog.at_level(logging.WARNING, LOGGER):
        resized = kind.from_pretrained(folder, image_size=size, ignore_mismatched_sizes=True)
    assert [record.message for record in caplog.records if record.name == LOGGER] == [
        f"positions of {folder} resampled from {grids} patches"
    ]
    assert resized.config.image_size == resized.crate.config.image_size == size
    x = pictures(size)
    expected = model(x, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(resized(x).logits, expected, atol=1e-5, rtol=0)
    resized.save_pretrained(folder / "resized")
    again = kind.from_pretrained(folder / "resized")
    torch.testing.assert_close(again(x).logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_by_a_configuration(saved):
    folder, model, size, grids = saved
    config = AutoConfig.from_pretrained(folder, image_size=size)
    resized, loading = CrateForImageClassification.from_pretrained(
        folder, config=config, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert loading["resized"] == [f"positions of {folder} resampled from {grids} patches"]
    assert not loading["mismatched_keys"]
    assert config.image_size == size
    x = pictures(size)
    expected = model(x, interpolate_pos_encoding=True).logits
    torch.testing.assert_close(resized(x).logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_other_classes_of_the_family(saved):
    folder, model, size, _ = saved
    x = pictures(size)
    tokens = model.crate(x, interpolate_pos_encoding=True).last_hidden_state
    options = {"image_size": size, "ignore_mismatched_sizes": True}
    torch.testing.assert_close(AutoModel.from_pretrained(folder, **options)(x).last_hidden_state, tokens)
    maps = AutoBackbone.from_pretrained(folder, **options)(x, interpolate_pos_encoding=False).feature_maps[0]
    torch.testing.assert_close(maps.flatten(2).mT, tokens[:, 1:])
    head = CrateForImageClassification.from_pretrained(folder, num_labels=3, **options)
    assert head(x).logits.shape == (2, 3)
    torch.testing.assert_close(head.crate(x).last_hidden_state, tokens)


def test_nothing_is_done_unasked(saved, caplog):
    folder, _, size, _ = saved
    # transformers' own message, and ours where the grid has as many patches in other rows
    with pytest.raises((RuntimeError, ValueError), match="ignore_mismatched_sizes"):
        CrateForImageClassification.from_pretrained(folder, image_size=size)
    caplog.clear()
    _, loading = CrateForImageClassification.from_pretrained(
        folder, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert loading["resized"] == []
    assert not [record for record in caplog.records if record.name == LOGGER]


def test_sizes_that_do_not_fit(saved):
    with pytest.raises(ValueError, match="is not a multiple of the patch"):
        CrateForImageClassification.from_pretrained(saved[0], image_size=43, ignore_mismatched_sizes=True)


@torch.no_grad()
@pytest.mark.parametrize(
    ("case", "patch", "image"),
    [("normalized", 3, (9, 15)), ("normalized", (3, 7), 21), ("convolution", 4, 8), ("cbt", 16, 80), ("cbt", 16, 32)],
)
def test_patches_of_another_size(case, patch, image, tmp_path, caplog):
    model = build(CrateForImageClassification, vision_config(**CASES[case][0]))
    for parameter in model.crate.embeddings.patch_embeddings.parameters():
        parameter.fill_(0.625)  # which no new one has
    model.save_pretrained(tmp_path)
    torch.manual_seed(7)
    with caplog.at_level(logging.WARNING, LOGGER):
        resized, loading = CrateForImageClassification.from_pretrained(
            tmp_path, patch_size=patch, image_size=image, ignore_mismatched_sizes=True, output_loading_info=True
        )
    assert "the patch embedding is drawn anew: patches are of" in loading["resized"][-1]
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    before, after = model.config.patch_grid, resized.config.patch_grid
    assert len(loading["resized"]) == (1 if before == after else 2)
    ours, theirs = resized.state_dict(), model.state_dict()
    for name in ours:
        if ".patch_embeddings." not in name and "position" not in name:
            assert torch.equal(ours[name], theirs[name]), name
    if before == after:
        position = "crate.embeddings.position_embeddings"
        assert torch.equal(ours[position], theirs[position])
    fresh = type(resized)(resized.config).state_dict()
    for name in (name for name in ours if ".patch_embeddings." in name and ours[name].ndim > 1):
        torch.testing.assert_close(ours[name].std(), fresh[name].std(), atol=0, rtol=0.25)  # as a new model's
    assert not any((tensor == 0.625).any() for name, tensor in ours.items() if ".patch_embeddings." in name)
    assert torch.isfinite(resized.eval()(pictures(image)).logits).all()


@torch.no_grad()
def test_the_autoencoder_has_the_table_of_its_grid(tmp_path):
    model = build(CrateMAEForPreTraining, mae_config())
    model.save_pretrained(tmp_path)
    resized, loading = AutoModelForPreTraining.from_pretrained(
        tmp_path, image_size=(25, 21), ignore_mismatched_sizes=True, output_loading_info=True
    )
    line = f"the positions are the sine-cosine table of 5 x 3 patches, {tmp_path} is of 3 x 5"
    assert loading["resized"] == [line]
    torch.testing.assert_close(resized.crate.embeddings.position_embeddings, sincos_positions(20, (5, 3)))
    model.config.image_size = (25, 21)
    model.crate.embeddings.position_embeddings = sincos_positions(20, (5, 3))
    x = images(model.config, size=(25, 21))
    noise = torch.rand(2, 15, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(resized(x, noise=noise).logits, model(x, noise=noise).logits, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_autoencoder_with_other_patches(tmp_path):
    build(CrateMAEForPreTraining, mae_config()).save_pretrained(tmp_path)
    options = {"patch_size": 5, "ignore_mismatched_sizes": True, "output_loading_info": True}
    resized, loading = CrateMAEForPreTraining.from_pretrained(tmp_path, **options)
    new = ["decoder.prediction.bias", "decoder.prediction.weight"]
    assert sorted(name for name, *_ in loading["mismatched_keys"]) == new
    assert "5 x 5 pixels, 5 x 7 in" in loading["resized"][-1]
    assert resized(images(resized.config, size=IMAGE)).logits.shape == (2, 21, 50)
    encoder, loading = CrateMAEModel.from_pretrained(tmp_path, **options)
    assert not loading["mismatched_keys"]
    assert encoder(images(encoder.config, size=IMAGE)).last_hidden_state.shape == (2, 22, 20)


@torch.no_grad()
def test_tost_has_no_positions_to_resample(tmp_path):
    sizes = {"hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 2, "image_size": 24, "patch_size": 8}
    model = build(TostForImageClassification, TostVisionConfig(**sizes))
    model.save_pretrained(tmp_path)
    x = pictures((33, 20))
    resized, loading = TostForImageClassification.from_pretrained(
        tmp_path, image_size=(33, 20), ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert loading["resized"] == []
    torch.testing.assert_close(resized(x).logits, model(x).logits, atol=1e-5, rtol=0)
    other, loading = TostForImageClassification.from_pretrained(
        tmp_path, patch_size=16, image_size=32, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert loading["resized"] == [
        f"the patch embedding is drawn anew: patches are of 16 x 16 pixels, 8 x 8 in {tmp_path}"
    ]
    assert torch.equal(other.crate.layers[0].compression.norm.weight, model.crate.layers[0].compression.norm.weight)
    assert other(x).logits.shape == (2, 2)


@torch.no_grad()
def test_a_model_is_brought_to_another_size():
    model = build(CrateVisionModel, vision_config())
    x = pictures((25, 21))
    expected = model(x, interpolate_pos_encoding=True).last_hidden_state
    with pytest.raises(ValueError, match="not a multiple of the patch height 5"):
        model.set_image_size(12)
    assert model.config.image_size == IMAGE
    model.set_image_size((25, 21))
    torch.testing.assert_close(model(x).last_hidden_state, expected)
    assert model.embeddings.position_embeddings.requires_grad
