"""Recipes are strict: what does not fit is an error that names the key and the nearest good one."""

import pytest
import yaml

from crate_transformers.training import load_recipe, recipe_of, shipped_recipes


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_whole(name):
    recipe = load_recipe(name)
    header = shipped_recipes()[name]
    for word in ("command:", "hardware:", "expected:"):
        assert word in header
    assert recipe_of(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train.learning_rat": 1}, "unknown key train.learning_rat.*learning_rate"),
        ({"model.hidden_sise": 1}, "unknown key model.hidden_sise.*hidden_size"),
        ({"data.sorce": "x"}, "unknown key data.sorce.*source"),
        ({"learning_rate": 1}, "did you mean 'train.learning_rate'"),
        ({"model.family": "vitt"}, "model.family must be one of.*did you mean 'vit'"),
        ({"model.family": "gpt2"}, "does not do image-classification"),
        ({"train.optimizer": "sgd"}, "train.optimizer must be one of adamw, lion"),
        ({"data.flip": "yes"}, "data.flip must be bool"),
        ({"data.validation_fraction": "x"}, "data.validation_fraction must be float"),
        ({"train.ema_decay": 1.5}, "train.ema_decay"),
        ({"train.output_dir": "x"}, "unknown key train.output_dir"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        load_recipe("digits", settings)


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        load_recipe("digit")
    (tmp_path / "a.yaml").write_text("model: {family: crate_vision}\nmodle: {}\n")
    with pytest.raises(ValueError, match="unknown key modle.*'model'"):
        load_recipe(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("model: [1")
    with pytest.raises(ValueError, match="not YAML"):
        load_recipe(str(tmp_path / "b.yaml"))
    with pytest.raises(ValueError, match="no recipe file"):
        load_recipe(str(tmp_path / "c.yaml"))
