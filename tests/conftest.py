"""Tests marked `cuda`, `chromium` or `compiler` are taken out of the run where there is no such thing."""

import shutil

import pytest
import torch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
HERE = {"cuda": torch.cuda.is_available(), "chromium": CHROMIUM is not None, "compiler": COMPILER is not None}


def pytest_collection_modifyitems(config, items):
    missing = [marker for marker, here in HERE.items() if not here]
    away = [item for item in items if any(item.get_closest_marker(marker) for marker in missing)]
    items[:] = [item for item in items if item not in away]
    config.hook.pytest_deselected(items=away)


@pytest.fixture(scope="session")
def chromium():
    """The browser's command."""
    return CHROMIUM
