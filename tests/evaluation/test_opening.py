"""Opening what a user names: a folder, a hub name, a checkpoint file; and what lies beside it."""

import pytest
import torch
from reference import load_golden
from transformers import AutoModelForImageClassification, AutoModelForMaskedLM
from zoo import build, vision_config

from crate_transformers import CrateForImageClassification, TostVisionConfig
from crate_transformers.evaluation.opening import open_model, processor_of, tokenizer_of
from crate_transformers.models.image_processing import image_processor_of, published_processor_of
from crate_transformers.recipes import load_recipe
from crate_transformers.upstream import PILImageResampling


@pytest.fixture
def folder(tmp_path):
    build(CrateForImageClassification, vision_config()).train().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def checkpoint(tmp_path):
    torch.save(load_golden("crate_cls").state, tmp_path / "crate.pth")
    return tmp_path / "crate.pth"


def test_a_folder_by_its_class_or_by_another(folder):
    model = open_model(str(folder))
    assert type(model) is CrateForImageClassification
    assert not model.training
    assert type(open_model(folder, kind=AutoModelForImageClassification)) is CrateForImageClassification
    with pytest.raises(ValueError, match="no usable model"):
        open_model(folder, kind=AutoModelForMaskedLM)


def test_a_checkpoint_file_and_what_was_assumed_of_it(checkpoint):
    told = []
    model = open_model(str(checkpoint), heads=3, on_note=told.append)
    assert model.config.num_attention_heads == 3
    assert not model.training
    assert any("layout" in line for line in told)


def test_what_does_not_fit_is_named(folder, checkpoint, tmp_path):
    (tmp_path / "model.txt").write_text("no model")
    for call, message in (
        (lambda: open_model(str(folder), 3), "--heads is of a checkpoint file"),
        (lambda: open_model(str(folder), 3, option="--baseline-heads"), "--baseline-heads is of a checkpoint file"),
        (lambda: open_model(str(tmp_path / "model.txt")), "not a model"),
        (lambda: open_model(str(tmp_path / "none")), "no model"),
        (lambda: open_model(str(checkpoint), kind=AutoModelForImageClassification), "convert it first"),
        (lambda: tokenizer_of(str(folder)), "has no tokenizer, which text needs"),
        (lambda: tokenizer_of(str(checkpoint)), "has no tokenizer, which text needs"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_processor_beside_a_model_or_that_of_its_configuration(folder):
    model = open_model(folder)
    assert processor_of(model, folder).to_dict() == image_processor_of(model.config).to_dict()
    image_processor_of(model.config, mean=[0.25]).save_pretrained(folder)
    assert list(processor_of(model, folder).image_mean) == [0.25] * 3


def test_pictures_of_a_family_are_those_of_its_published_evaluation():
    """What is written at conversion is what the recipe of the family evaluates with."""
    config = TostVisionConfig.from_size("tiny", image_size=32)
    data = load_recipe("tost-imagenet1k").data
    asked = image_processor_of(config, data.center_crop, None, None, data.interpolation, data.crop_fraction)
    assert published_processor_of(config).to_dict() == asked.to_dict()
    assert (asked.size["shortest_edge"], asked.resample) == (32, PILImageResampling.BICUBIC)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_looked_at_in_float32(folder, dtype):
    open_model(folder).to(dtype).save_pretrained(folder)
    told = []
    assert open_model(folder, on_note=told.append).dtype == dtype
    model = open_model(folder, in_single=True, on_note=told.append)
    assert (model.dtype, model.config.dtype) == (torch.float32, torch.float32)
    name = str(dtype).removeprefix("torch.")
    assert told == [f"the weights of {folder} are {name}, looked at in float32"]
