"""Recipes: YAML files of three sections that describe a run, checked key by key before anything runs.

Reading what a task declares, or listing the recipes, needs neither torch nor transformers: the modules that need them
are loaded when their names are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_recipe, recipe_of
    from .schema import Recipe
    from .shipped import shipped_recipes

_PUBLIC = {"Recipe": "schema", "load_recipe": "loading", "recipe_of": "loading", "shipped_recipes": "shipped"}

__all__ = ["Recipe", "load_recipe", "recipe_of", "shipped_recipes"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
