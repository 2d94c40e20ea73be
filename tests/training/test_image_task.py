"""What a run on pictures says of its patches, and of its length; how it resizes and changes pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import DINO, MAE, recipe, small_recipe, small_run

from crate_transformers import CrateVisionConfig
from crate_transformers.errors import UserError
from crate_transformers.evaluation.evaluate import evaluate_model
from crate_transformers.training import train
from crate_transformers.training.tasks import task_of


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"patch_size": 2, "num_channels": 1}, 4),
        ({"patch_size": 2, "num_channels": 3}, 12),
        ({"patch_size": 1, "num_channels": 3}, 3),
        ({"patch_size": [4, 2], "num_channels": 1}, 8),
        ({"patch_size": 4, "num_channels": 1}, None),  # 16 values
        ({"patch_size": 2, "num_channels": 1, "patch_embedding": "convolution"}, None),
        ({"patch_size": 2, "num_channels": 1, "family": "vit"}, None),
    ],
)
def test_normalised_patches_of_few_values_are_said(tmp_path, fields, values):
    fields = {"patch_embedding": "normalized", **fields} if "family" not in fields else fields
    recipe = small_recipe(**{f"model__{name}": value for name, value in fields.items()})
    notes = [note for note in task_of(recipe, tmp_path).notes if "patch" in note]
    assert len(notes) == (values is not None)
    if values is not None:
        assert f"each patch of {values} values is normalised by itself" in notes[0]
        assert "model.patch_embedding=convolution" in notes[0]


def test_a_normalised_patch_of_one_value_is_refused():
    with pytest.raises(UserError, match=r"a patch of one value .* set patch_embedding=.convolution., or a larger"):
        CrateVisionConfig(image_size=8, patch_size=1, num_channels=1)
    assert CrateVisionConfig(image_size=8, patch_size=[1, 2], num_channels=1).num_patches == 32
    assert CrateVisionConfig(image_size=8, patch_size=1, num_channels=1, patch_embedding="convolution").num_patches


def test_a_short_run_says_its_length_and_its_warm_up(tmp_path):
    said = []
    recipe = small_recipe(train__max_steps=2, train__warmup_epochs=3)
    result = train(recipe, tmp_path / "run", on_note=said.append)
    assert "the run is train.max_steps = 2 steps long (0.2 epochs), and not train.num_train_epochs = 2" in said
    assert any(line.startswith("train.warmup_epochs = 3 is 30 steps and the run is 2") for line in said)
    assert "train.warmup_epochs = 3 is 30 steps" in (result.output / "report.html").read_text()


def picture(height, width):
    """Noise, on which every way of resizing gives other numbers."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_the_evaluation_of_a_saved_folder_resizes_as_the_run_did(tmp_path):
    options = {"data__interpolation": "bicubic", "data__center_crop": True, "data__crop_fraction": 0.5}
    result = small_run(tmp_path / "run", **options, train__max_steps=2)
    saved = json.loads((result.output / "preprocessor_config.json").read_text())
    assert (saved["resample"], saved["size"]) == (Image.Resampling.BICUBIC, {"shortest_edge": 16})
    assert evaluate_model(result.output)["loss"] == pytest.approx(result.metrics["test"]["loss"], abs=1e-6)


def transform_of(task):
    """What makes a training input of a picture, whatever the task."""
    data = task.train_data
    return (
        data.crops["global_crops"][0]
        if hasattr(data, "crops")
        else getattr(data, "transform", None) or (data.images.transform)
    )


@pytest.mark.parametrize("base", [MAE, DINO, None], ids=["mae", "dino", "classification"])
def test_every_task_on_pictures_resizes_as_asked(base, tmp_path):
    """In training and in evaluation."""
    seen = {}
    for interpolation in ("nearest", "bilinear", "bicubic"):
        options = {"data__interpolation": interpolation, "data__center_crop": True, "data__crop_fraction": 1.0}
        task = task_of(recipe(base, **options) if base else small_recipe(**options), tmp_path)
        torch.manual_seed(0)
        trained = transform_of(task)(picture(30, 30))
        evaluated = task.processor(picture(30, 20), return_tensors="pt")["pixel_values"][0]
        assert trained.shape == evaluated.shape
        seen[interpolation] = (trained, evaluated)
    for first, second in (("nearest", "bilinear"), ("bilinear", "bicubic")):
        for one, other in zip(seen[first], seen[second], strict=True):
            assert not torch.allclose(one, other, atol=0.05)


def test_colours_are_changed_by_as_much_as_asked(tmp_path):
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    data = task_of(small_recipe(data__color_jitter=0.4, data__mean=[0.0], data__std=[1.0]), tmp_path).train_data
    shades = []
    for seed in range(200):
        torch.manual_seed(seed)
        shades.append(float(data.transform(grey).mean()) * 255 / 100)
    assert 0.59 <= min(shades) < 0.65
    assert 1.35 < max(shades) <= 1.41


def test_a_centre_of_pictures_that_are_not_square_is_refused_or_told(tmp_path):
    sides = {"model__image_size": [8, 12], "data__center_crop": True}
    notes = task_of(small_recipe(**sides), tmp_path).notes
    assert "data.center_crop is not used: it is of square images, and model.image_size is 8 x 12" in notes
    with pytest.raises(UserError, match="data.crop_fraction is of square images, model.image_size is 8 x 12"):
        task_of(small_recipe(**sides, data__crop_fraction=0.9), tmp_path)


def test_more_repetitions_than_pictures_are_refused(tmp_path):
    with pytest.raises(UserError, match="repeated_augmentation is 5000, and there are .* training pictures"):
        task_of(small_recipe(data__repeated_augmentation=5000), tmp_path)
