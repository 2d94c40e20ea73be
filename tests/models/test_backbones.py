"""The image models as backbones: their maps, what they load, and transformers' networks that are built on them."""

import json

import pytest
import torch
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModelForImageClassification,
    DetrConfig,
    DetrForObjectDetection,
    DPTConfig,
    DPTForDepthEstimation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from zoo import GRID, IMAGE, LAYERS, PATCHES, WIDTH, build, images, mae_config, vision_config

from crate_transformers import (
    CrateForImageClassification,
    CrateMAEBackbone,
    CrateMAEForPreTraining,
    CrateVisionBackbone,
    CrateVisionConfig,
    TostForImageClassification,
    TostVisionBackbone,
    TostVisionConfig,
)


def tost_config(**fields):
    sizes = {"hidden_size": 20, "num_attention_heads": 5, "num_hidden_layers": 3, "image_size": (20, 33)}
    return TostVisionConfig(**{**sizes, "patch_size": 8, "num_labels": 7, **fields})


@torch.no_grad()
def test_maps_are_the_patches_of_the_layers():
    model = build(CrateVisionBackbone, vision_config(out_features=["stem", f"stage{LAYERS}"]))
    x = images(model.config)
    outputs = model(x, output_hidden_states=True, output_attentions=True)
    assert model.out_indices == [0, LAYERS]
    assert model.channels == [WIDTH, WIDTH]
    assert len(outputs.hidden_states) == LAYERS + 1
    assert len(outputs.attentions) == LAYERS
    assert outputs.attentions[0].shape[-2:] == (1 + PATCHES,) * 2
    states = model.crate(x, output_hidden_states=True).hidden_states
    for one, tokens in zip(outputs.feature_maps, (states[0], states[-1]), strict=True):
        assert one.shape == (2, WIDTH, *GRID)
        torch.testing.assert_close(one[:, :, 2, 1], tokens[:, 1 + 2 * GRID[1] + 1])
        torch.testing.assert_close(one.flatten(2).mT, tokens[:, 1:])
    plain = model(x)
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert len(model(x, return_dict=False)) == 1


@torch.no_grad()
def test_maps_of_tost():
    model = build(TostVisionBackbone, tost_config(out_indices=[1, 3]))
    x = images(model.config)
    outputs = model(x, output_hidden_states=True)
    assert model.out_features == ["stage1", "stage3"]
    assert [tuple(one.shape) for one in outputs.feature_maps] == [(2, 20, 3, 5)] * 2
    layers = model.crate.layers
    expected = layers[2](layers[1](layers[0](model.crate.embed(x))))
    torch.testing.assert_close(outputs.feature_maps[1].flatten(2).mT, expected)
    torch.testing.assert_close(outputs.hidden_states[3], expected)  # of the patches, before class attention
    with pytest.raises(ValueError, match="no class token"):
        TostVisionBackbone(tost_config(reshape_hidden_states=False))


def test_every_parameter_of_a_backbone_has_a_gradient():
    for kind, config in (
        (CrateVisionBackbone, vision_config()),
        (CrateMAEBackbone, mae_config()),
        (TostVisionBackbone, tost_config()),
    ):
        model = build(kind, config).train()
        sum(one.square().sum() for one in model(images(config)).feature_maps).backward()
        learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == learned


@torch.no_grad()
def test_other_sizes_are_taken():
    model = build(CrateVisionBackbone, vision_config())
    x = images(model.config, size=(25, 21))
    assert model(x).feature_maps[0].shape == (2, WIDTH, 5, 3)
    expected = model.crate(x, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    torch.testing.assert_close(model(x).feature_maps[0].flatten(2).mT, expected)
    with pytest.raises(ValueError, match="expected images of 15 x 35 pixels"):
        model(x, interpolate_pos_encoding=False)
    with pytest.raises(ValueError, match="does not know the keyword 'interpolate'"):
        model(x, interpolate=True)


@torch.no_grad()
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("family", ["crate", "mae", "tost"])
def test_a_folder(family, whole, tmp_path):
    kind, config, expected = {
        "crate": (CrateForImageClassification, vision_config(), CrateVisionBackbone),
        "mae": (CrateMAEForPreTraining, mae_config(), CrateMAEBackbone),
        "tost": (TostForImageClassification, tost_config(), TostVisionBackbone),
    }[family]
    source = build(kind, config)
    (source if whole else source.crate).save_pretrained(tmp_path)
    model = AutoBackbone.from_pretrained(tmp_path, out_features=["stage1", "stage2"])
    assert type(model) is expected
    x = images(source.config)
    states = source.crate(x, output_hidden_states=True).hidden_states
    maps = model.eval()(x).feature_maps
    for one, tokens in zip(maps, states[1:3], strict=True):
        torch.testing.assert_close(one.flatten(2).mT, tokens[:, tokens.shape[1] - one[0, 0].numel() :])
    model.save_pretrained(tmp_path / "again")
    again = AutoBackbone.from_pretrained(str(tmp_path / "again")).eval()
    assert again.out_features == ["stage1", "stage2"]
    for one, other in zip(again(x).feature_maps, maps, strict=True):
        torch.testing.assert_close(one, other)


def test_a_configuration_says_what_was_asked_for_alone(tmp_path):
    config = vision_config()
    assert (config.out_features, config.out_indices) == ([f"stage{LAYERS}"], [LAYERS])
    assert not {"out_features", "out_indices", "stage_names", "reshape_hidden_states"} & config.to_dict().keys()
    config.num_hidden_layers = 4
    assert config.out_features == ["stage4"]
    config.out_indices = (0, 2)
    assert config.out_features == ["stem", "stage2"]
    config.reshape_hidden_states = False
    config.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert (content["out_features"], content["out_indices"]) == (["stem", "stage2"], [0, 2])
    again = AutoConfig.from_pretrained(tmp_path)
    assert {**again.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert again.reshape_hidden_states is False
    for wrong in ({"out_features": ["stage9"]}, {"out_indices": [5]}, {"out_features": ["stage2", "stage1"]}):
        with pytest.raises(ValueError, match="out_features must be|out_indices must be"):
            vision_config(**wrong)
    with pytest.raises(ValueError, match="subset of stage_names"):  # of a model that lost layers
        CrateVisionBackbone(CrateVisionConfig(**{**config.to_dict(), "num_hidden_layers": 1}))


def test_auto_backbone_of_other_folders_is_what_it_was(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(Exception, match="Repo id must be"):  # transformers takes no folder of its own
        AutoBackbone.from_pretrained(tmp_path)


# ----- in transformers' networks


def four_stages(**fields):
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
    return CrateVisionConfig(**sizes, out_features=["stage1", "stage2", "stage3", "stage4"], **fields)


HEADS = {
    "upernet": (
        UperNetForSemanticSegmentation,
        lambda: UperNetConfig(
            backbone_config=four_stages(), hidden_size=16, num_labels=5, auxiliary_in_channels=24, auxiliary_channels=16
        ),
        lambda outputs: outputs.logits,
        (2, 5, 32, 48),
    ),
    "mask2former": (
        Mask2FormerForUniversalSegmentation,
        lambda: Mask2FormerConfig(
            backbone_config=four_stages(), hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1,
            decoder_layers=2, num_attention_heads=2, encoder_feedforward_dim=16, dim_feedforward=16, num_queries=5,
            num_labels=5,
        ),
        lambda outputs: outputs.masks_queries_logits,
        (2, 5, 4, 6),
    ),
    "dpt": (
        DPTForDepthEstimation,
        lambda: DPTConfig(
            backbone_config=four_stages(reshape_hidden_states=False), neck_hidden_sizes=[8, 8, 8, 8],
            fusion_hidden_size=8, reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False, patch_size=8,
        ),
        lambda outputs: outputs.predicted_depth,
        (2, 64, 96),
    ),
    "detr": (
        DetrForObjectDetection,
        lambda: DetrConfig(
            backbone_config=four_stages(), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, num_queries=4,
        ),
        lambda outputs: outputs.pred_boxes,
        (2, 4, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("head", HEADS)
def test_a_network_on_a_backbone(head, tmp_path):
    kind, make_config, result, shape = HEADS[head]
    torch.manual_seed(0)
    model = kind(make_config()).eval()
    x = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))
    given = result(model(pixel_values=x))
    assert given.shape == shape
    given.square().mean().backward()
    backbone = next(part for part in model.modules() if isinstance(part, CrateVisionBackbone))
    assert all(torch.isfinite(parameter.grad).all() for parameter in backbone.parameters())
    assert backbone.crate.layers[0].sparsification.coding.dictionary.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(result(again(pixel_values=x)), given)


@torch.no_grad()
def test_a_classifier_reads_a_folder_that_a_backbone_shares(tmp_path):
    build(CrateVisionBackbone, vision_config(out_indices=[1])).save_pretrained(tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert model(images(model.config)).logits.shape == (2, 11)
    assert model.config.image_size == list(IMAGE) or model.config.image_size == IMAGE
