"""The reference of recipes holds every key that a recipe may have, and says what it means."""

from collections import Counter

import pytest
import yaml

from crate_transformers.recipes import load_recipe, recipe_of, shipped_recipes
from crate_transformers.recipes.checks import RecipeError
from crate_transformers.recipes.families import FAMILIES
from crate_transformers.recipes.options import default_of
from crate_transformers.recipes.reference import Key, accepted_keys, as_table, meanings_of, recipe_reference
from crate_transformers.recipes.schema import NOT_FIELDS
from crate_transformers.recipes.tasks import known_options
from crate_transformers.recipes.trainer_arguments import RUN_DEFAULTS, argument_types, check_argument, not_set_here
from crate_transformers.training.arguments import training_arguments

KEYS = recipe_reference()


def of(section, name, reader=None):
    return [key for key in KEYS if (key.section, key.name) == (section, name) and (not reader or reader in key.readers)]


def test_every_key_that_the_schema_accepts_is_in_the_reference():
    fields = {name for family in FAMILIES.values() for name in family.config_fields}
    accepted = {
        "model": {*NOT_FIELDS, *fields},
        "data": set(known_options("data")),
        "train": {*known_options("train"), *argument_types()} - set(not_set_here()),
    }
    assert accepted == accepted_keys()
    assert {section: {key.name for key in KEYS if key.section == section} for section in accepted} == accepted


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_of_a_family_is_there_once(family):
    names = Counter(key.name for key in KEYS if key.section == "model" and family in key.readers)
    assert names == Counter((*NOT_FIELDS, *FAMILIES[family].config_fields))


def test_every_key_has_a_kind_and_a_meaning():
    assert [
        (key.section, key.name, key.readers) for key in KEYS if not (key.meaning and key.kind and key.readers)
    ] == []


def test_meanings_are_not_shared_by_accident():
    """Two options of ours that mean the same in words are one entry that should be two."""
    meanings = Counter(key.meaning for key in KEYS if key.is_ours and key.section != "model")
    assert [meaning for meaning, count in meanings.items() if count > 1] == []


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_explained(name):
    written = load_recipe(name).to_dict()
    for section in ("model", "data", "train"):
        for key in written[section]:
            assert of(section, key), f"{section}.{key}"


def test_a_key_that_is_refused_is_not_there():
    for name in not_set_here():
        assert of("train", name) == []
        with pytest.raises(RecipeError):
            check_argument(name, True)


def test_defaults_are_those_of_a_run(tmp_path):
    recipe = recipe_of({"data": {"source": "digits"}})
    for name, value in vars(recipe.data).items():
        (key,) = of("data", name)
        assert yaml.safe_load(key.default) == value, name
    arguments = training_arguments(recipe, tmp_path, 100, "accuracy", True)
    for name, expected in {"seed": "42", "logging_steps": "10", "lr_scheduler_type": "cosine"}.items():
        (key,) = of("train", name)
        assert key.default == expected == str(getattr(getattr(arguments, name), "value", getattr(arguments, name)))
    assert of("train", "use_cpu")[0].default == ""  # as the machine is
    assert RUN_DEFAULTS.keys() <= {key.name for key in KEYS}
    assert default_of(known_options("train")["measure_every"]) == 0


def test_families_that_differ_have_rows_of_their_own():
    assert [of("model", "hidden_size", family)[0].default for family in ("crate_vision", "tost_vision")] == [
        "768",
        "384",
    ]
    (of_ours,) = of("model", "ista_lambda", "crate_mae")
    assert of_ours.default == "0.5"
    assert of("model", "intermediate_size", "vit")[0].default == "4 x hidden_size"
    assert not of("model", "intermediate_size", "vit")[0].is_ours


def test_entries_that_share_a_line():
    docstring = """Options.

    Args:
        root: a folder, see source: it may stay. first, second: two numbers,
            of which: none. third: `None` is of first.

    Returns:
        root: nothing.
    """
    assert meanings_of(docstring, ("root", "first", "second", "third")) == {
        "root": "a folder, see source: it may stay",
        "first": "two numbers, of which: none",
        "second": "two numbers, of which: none",
        "third": "`None` is of first",
    }
    assert meanings_of("No sections. root: not here.", ("root",)) == {}


def test_a_table_escapes_what_would_end_a_cell():
    table = as_table([Key("data", "x", "int | None", "", "a | b", ("one", "two"))], ("one", "two"))
    assert table.splitlines()[-1] == r"| `x` | int \| None | a \| b |"
