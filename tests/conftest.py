"""Tests marked `cuda`, `triton`, `chromium`, `compiler`, `sphinx` or `doors("PACKAGE")`: out where there is none."""

import importlib.util
import shutil
import sys
from importlib.util import find_spec

import pytest
import torch

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMPILER = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
SITE = all(map(find_spec, ("sphinx", "furo", "myst_nb")))  # the extra docs
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
HERE = {
    "cuda": torch.cuda.is_available(),
    "chromium": CHROMIUM is not None,
    "compiler": COMPILER is not None,
    "sphinx": SITE,
    "triton": sys.platform == "linux",  # where it has to be installed
}


def has_packages(item):
    """Whether the packages are installed that a test's marks `doors` name."""
    return all(importlib.util.find_spec(name) for mark in item.iter_markers("doors") for name in mark.args)


def pytest_collection_modifyitems(config, items):
    missing = [marker for marker, here in HERE.items() if not here]
    away = [item for item in items if any(map(item.get_closest_marker, missing)) or not has_packages(item)]
    items[:] = [item for item in items if item not in away]
    config.hook.pytest_deselected(items=away)


@pytest.fixture(scope="session")
def chromium():
    """The browser's command."""
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium):
    """Playwright's door to that browser, which asks nothing of elsewhere by itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        yield browser
        browser.close()
