"""Tests marked `cuda` or `chromium` are taken out of the run where there is no CUDA device, or no Chromium."""

import shutil

import pytest
import torch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HERE = {"cuda": torch.cuda.is_available(), "chromium": CHROMIUM is not None}


def pytest_collection_modifyitems(config, items):
    missing = [marker for marker, here in HERE.items() if not here]
    away = [item for item in items if any(item.get_closest_marker(marker) for marker in missing)]
    items[:] = [item for item in items if item not in away]
    config.hook.pytest_deselected(items=away)


@pytest.fixture(scope="session")
def chromium():
    """The browser's command."""
    return CHROMIUM
