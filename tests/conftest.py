"""Tests marked `cuda`, `chromium`, `compiler` or `sphinx` are taken out of the run where there is no such thing."""

import shutil
from importlib.util import find_spec

import pytest
import torch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
SITE = all(map(find_spec, ("sphinx", "furo", "myst_parser")))  # the extra docs
HERE = {
    "cuda": torch.cuda.is_available(),
    "chromium": CHROMIUM is not None,
    "compiler": COMPILER is not None,
    "sphinx": SITE,
}


def pytest_collection_modifyitems(config, items):
    missing = [marker for marker, here in HERE.items() if not here]
    away = [item for item in items if any(item.get_closest_marker(marker) for marker in missing)]
    items[:] = [item for item in items if item not in away]
    config.hook.pytest_deselected(items=away)


@pytest.fixture(scope="session")
def chromium():
    """The browser's command."""
    return CHROMIUM
