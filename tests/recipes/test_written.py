"""A recipe is written as it always was: `written.txt` holds what is written of every shipped recipe, and of settings.

Each text follows a line with the recipe's name and the settings. Runs are resumed by comparing recipes, and people keep
recipe.yaml beside their models, so keys and their order stay.
"""

import json
from pathlib import Path

import pytest

from crate_transformers.recipes import load_recipe, shipped_recipes

CASES = []
for part in (Path(__file__).parent / "written.txt").read_text().split("=== ")[1:]:
    line, _, text = part.partition("\n")
    CASES.append((*line.split(" ", 1), text))


def test_every_shipped_recipe_is_among_them():
    assert {name for name, settings, _ in CASES if settings == "{}"} == set(shipped_recipes())


@pytest.mark.parametrize(("name", "settings", "text"), CASES)
def test_a_recipe_is_written_as_it_was(name, settings, text):
    assert load_recipe(name, json.loads(settings)).to_yaml() == text


@pytest.mark.parametrize(("name", "settings", "text"), CASES)
def test_what_is_written_is_read_as_the_same_recipe(name, settings, text, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    recipe = load_recipe(str(tmp_path / "recipe.yaml"))
    assert recipe == load_recipe(name, json.loads(settings))
    assert recipe.to_yaml() == text
