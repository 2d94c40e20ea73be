"""What a run on pictures says of its patches, and of its length."""

import pytest
from small_runs import small_recipe

from crate_transformers import CrateVisionConfig
from crate_transformers.errors import UserError
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
