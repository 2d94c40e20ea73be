"""Every public name has a docstring with an example; the examples run, and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import crate_transformers
from crate_transformers.ops import Operator

SOURCES = Path(crate_transformers.__file__).parent
OPTIONAL = {"crate_transformers.analysis.scores": "pycocotools"}  # library that an example needs


def module_name(path):
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


WITH_EXAMPLES = sorted(module_name(path) for path in SOURCES.rglob("*.py") if ">>> " in path.read_text("utf-8"))


def public_names():
    """The classes and functions of the public lists, as (package, name)."""
    rooms = ("", ".analysis", ".objective", ".ops")
    packages = [importlib.import_module(f"crate_transformers{room}") for room in rooms]
    return [(package, name) for package in packages for name in package.__all__ if callable(getattr(package, name))]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    torch.manual_seed(0)
    assert doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize(("package", "name"), public_names(), ids=lambda part: getattr(part, "__name__", part))
def test_a_public_name_has_an_example(package, name):
    thing = getattr(package, name)
    thing = thing.equation if isinstance(thing, Operator) else thing  # an operator is described by its equation
    assert ">>> " in (thing.__doc__ or "")
