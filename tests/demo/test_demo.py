"""The demonstration: small, whole, made by the recipes that are shipped, on pictures that no training saw."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from crate_transformers import demo
from crate_transformers.demo.loading import folder_of
from crate_transformers.errors import UserError
from crate_transformers.recipes.loading import load_recipe

RECIPES = {
    "fashion": ("fashion", {}),
    "fashion-vit": ("fashion", {"model.family": "vit", "train.learning_rate": 0.001}),
    "fashion-mae": ("mae-fashion", {}),
    "python": ("clm-small", {}),
}
CLASSES = {
    "fashion": "CrateForImageClassification",
    "fashion-vit": "ViTForImageClassification",
    "fashion-mae": "CrateMAEForPreTraining",
    "python": "CrateForCausalLM",
}


def test_all_of_it_is_small():
    files = [path for path in Path(demo.__file__).parent.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    weights = [path.stat().st_size for path in files if path.suffix == ".safetensors"]
    assert len(weights) == len(demo.NAMES)
    assert max(weights) <= 1.5 * 2**20
    assert sum(path.stat().st_size for path in files) <= 4 * 2**20


@pytest.mark.parametrize("name", demo.NAMES)
def test_it_opens(name):
    found = demo.load(name)
    assert type(found.model).__name__ == CLASSES[name]
    assert found.model.dtype == torch.float32
    assert not found.model.training
    assert found.metrics["model"]["parameters"] == found.model.num_parameters()
    assert (found.processor is None) == (name == "python") == (found.tokenizer is not None)
    assert all(parameter.isfinite().all() for parameter in found.model.parameters())


@pytest.mark.parametrize("name", demo.NAMES)
def test_its_recipe_is_the_shipped_one(name):
    recipe, settings = RECIPES[name]
    kept = yaml.safe_load((folder_of(name) / "recipe.yaml").read_text(encoding="utf-8"))
    assert kept == yaml.safe_load(load_recipe(recipe, settings).to_yaml())


@pytest.mark.parametrize("name", ["fashion", "fashion-vit"])
def test_classifiers_know_the_pictures(name):
    found = demo.load(name)
    pixels = found.processor(list(found.pictures.images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        numbers = found.model(pixels).logits.argmax(dim=-1).tolist()
    right = [found.model.config.id2label[n] == label for n, label in zip(numbers, found.pictures.labels, strict=True)]
    assert sum(right) >= 30  # of 40: about 84 % of the test part


def test_pictures_are_of_the_test_part_four_a_class():
    shown = demo.pictures()
    assert all(shown.labels.count(label) == 4 for label in set(shown.labels))
    kept = json.loads((folder_of("fashion").parent / "pictures.json").read_text(encoding="utf-8"))
    assert len(set(kept["of_test"])) == len(shown.images) == 40


def test_the_language_model_has_learned_its_text():
    found = demo.load("python")
    losses = []
    for text in found.texts[:12]:
        ids = found.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            losses.append(found.model(ids, labels=ids).loss.item())
    guess = torch.tensor(float(found.model.config.vocab_size)).log().item()
    assert sum(losses) / len(losses) < 0.8 * guess


def test_names_that_are_not_there():
    with pytest.raises(UserError, match="there is no demonstration 'cats': expected one of fashion"):
        demo.load("cats")
    with pytest.raises(UserError, match="has no pictures"):
        demo.pictures("python")
