"""Recipes are strict: what does not fit is an error that names the key and the nearest good one."""

import pytest
import yaml

from crate_transformers.training import load_recipe, recipe_of, shipped_recipes
from crate_transformers.training.arguments import training_arguments


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
        ({"train.max_steps": "abc"}, "train.max_steps must be int, got 'abc'"),
        ({"train.max_steps": 0}, "train.max_steps must be at least 1"),
        ({"train.learning_rate": "abc"}, "train.learning_rate must be float"),
        ({"train.per_device_train_batch_size": 0}, "train.per_device_train_batch_size must be at least 1"),
        ({"train.num_train_epochs": 0}, "train.num_train_epochs must be positive"),
        ({"data.rand_augment": [2]}, "data.rand_augment must be a list of 2 numbers"),
        ({"data.crop_scale": [0.5]}, "data.crop_scale must be a list of 2 numbers"),
        ({"train.output_dir": "x"}, "unknown key train.output_dir"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(ValueError, match=words):
        load_recipe("digits", settings)


def test_smoothing_is_of_classes():
    with pytest.raises(ValueError, match="label_smoothing_factor is of image-classification"):
        load_recipe("clm", {"train.label_smoothing_factor": 0.1})


def test_a_baseline_leaves_out_what_only_the_recipes_family_has(tmp_path):
    (tmp_path / "own.yaml").write_text("model: {family: crate_vision, pool: mean, ista_lambda: 0.2, hidden_size: 24}\n")
    own = str(tmp_path / "own.yaml")
    assert load_recipe(own, {"model.family": "vit"}).model == {"family": "vit", "hidden_size": 24}
    assert load_recipe(own, {"model.family": "crate_vision"}).model["pool"] == "mean"
    with pytest.raises(ValueError, match="unknown key model.pool"):
        load_recipe(own, {"model.pool": "cls", "model.family": "vit"})
    with pytest.raises(ValueError, match=r"model.family must be one of .*got \['vit'\]"):
        load_recipe(own, {"model.family": ["vit"]})


def test_an_empty_section_takes_settings(tmp_path):
    (tmp_path / "own.yaml").write_text("task: image-classification\ndata:\ntrain:\n")
    recipe = load_recipe(str(tmp_path / "own.yaml"), {"data.source": "digits", "train.max_steps": 3})
    assert (recipe.data.source, recipe.arguments) == ("digits", {"max_steps": 3})


@pytest.mark.parametrize(
    ("asked", "saves", "keeps_best"),
    [
        ({}, "epoch", True),
        ({"train.eval_steps": 7}, "steps", True),
        ({"train.eval_steps": 7, "train.save_strategy": "no"}, "no", False),
        ({"train.save_steps": 5}, "steps", False),
        ({"train.eval_strategy": "no"}, "epoch", False),
    ],
)
def test_what_is_asked_of_saving_is_done(tmp_path, asked, saves, keeps_best):
    recipe = load_recipe("finetune-pets", asked)
    arguments = training_arguments(recipe, tmp_path, 10, "eval_accuracy", True)
    assert (arguments.save_strategy, arguments.load_best_model_at_end) == (saves, keeps_best)


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
