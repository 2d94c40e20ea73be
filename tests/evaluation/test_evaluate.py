"""Which data options an evaluation takes: the recipe's, then the settings, of those that it reads."""

import pytest

from crate_transformers.errors import UserError
from crate_transformers.evaluation.evaluate import data_options
from crate_transformers.recipes import load_recipe
from crate_transformers.recipes.tasks.images import ImageData
from crate_transformers.recipes.tasks.language_modeling import MaskedLanguageData

FRACTIONS = {"data.validation_fraction": 0.3, "data.root": "/pictures", "data.crop": "pad"}


def test_the_recipe_then_the_settings_then_the_source():
    recipe = load_recipe("digits", FRACTIONS)
    found = data_options(ImageData, recipe, "imagefolder:x", {"data.root": "/others", "data.source": "unread"})
    expected = {"validation_fraction": 0.3, "root": "/others", "source": "imagefolder:x", "mean": [0.3], "std": [0.37]}
    assert found == ImageData(**expected)


def test_a_recipe_of_another_task_gives_what_it_has():
    recipe = load_recipe("clm", {"data.context_length": 48, "data.text_column": "story"})
    found = data_options(MaskedLanguageData, recipe, None, {})
    assert (found.context_length, found.text_column, found.mask_probability) == (48, "story", 0.15)


def test_settings_that_the_evaluation_does_not_read_are_checked_all_the_same():
    assert data_options(ImageData, None, "digits", {"data.mask_probability": 0.3}) == ImageData()
    for settings, words in (
        ({"data.mask_probability": "x"}, "data.mask_probability must be float"),
        ({"data.maks": 1}, "unknown setting 'data.maks': evaluate takes data.NAME"),
        ({"train.seed": 1}, "unknown setting 'train.seed'"),
    ):
        with pytest.raises(UserError, match=words):
            data_options(ImageData, None, "digits", settings)
    with pytest.raises(UserError, match="say what to evaluate on with --data"):
        data_options(ImageData, None, None, {})
