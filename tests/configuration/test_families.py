"""The table of families, and what a family lacks: registration, public names, sizes, layouts, tasks."""

import subprocess
import sys

import pytest
import transformers

import crate_transformers
from crate_transformers.configuration import MODEL_FAMILIES, SIZES
from crate_transformers.configuration.families import load_class
from crate_transformers.interop.layouts import LAYOUTS

FAMILIES = pytest.mark.parametrize("family", MODEL_FAMILIES.values(), ids=MODEL_FAMILIES)


@FAMILIES
def test_every_class_is_public_and_registered(family):
    config = family.config_class()
    assert config.model_type == family.model_type
    assert transformers.AutoConfig.for_model(family.model_type).__class__ is config
    for auto_class, place in family.models.items():
        model = load_class(place)
        assert model.config_class is config
        assert getattr(transformers, auto_class)._model_mapping[config] is model
    for name in family.public_names():
        assert name in crate_transformers.__all__, f"{name} is no public name of the package"
        assert getattr(crate_transformers, name).__name__ == name


@FAMILIES
def test_every_size_has_a_configuration(family):
    for size in family.sizes:
        named = f"{family.size_prefix}-{size}" if family.size_prefix else size
        config = family.config_class().from_size(named)
        assert config.hidden_size == SIZES.get(size, vars(config))["hidden_size"] or family.model_type.startswith(
            "tost"
        )
    assert len(set(family.sizes)) == len(family.sizes) >= 3


def test_every_layout_belongs_to_a_family():
    named = {layout: family for family in MODEL_FAMILIES.values() for layout in family.layouts}
    assert set(named) == {layout.name for layout in LAYOUTS}
    for layout in LAYOUTS:
        assert named[layout.name].config_class() is layout.config_class


def test_every_public_class_is_of_a_family():
    classes = {name for name in crate_transformers.__all__ if name.startswith(("Crate", "Tost"))}
    assert classes == {name for family in MODEL_FAMILIES.values() for name in family.public_names()}


def test_the_table_is_read_without_torch():
    program = "import sys, crate_transformers; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
