"""The table of published models: the page shows it, and its parameters are counted."""

from pathlib import Path

import pytest
import torch

from crate_transformers.configuration import MODEL_FAMILIES
from crate_transformers.configuration.families import load_class
from crate_transformers.configuration.published import PUBLISHED, published_table

HEADS = ("AutoModelForImageClassification", "AutoModelForPreTraining", "AutoModelForCausalLM")


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.name)
def test_parameters(one):
    models = MODEL_FAMILIES[one.family].models
    place = next(models[head] for head in HEADS if head in models)
    with torch.device("meta"):
        model = load_class(place)(one.config())
    assert model.num_parameters() == one.parameters


def test_the_page_shows_the_table():
    page = Path(__file__).parents[2] / "docs" / "family.md"
    assert published_table() in page.read_text()


def test_every_family_of_models_is_in_it():
    assert {one.family for one in PUBLISHED} == set(MODEL_FAMILIES)
