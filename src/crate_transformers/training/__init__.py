"""Training with what Hugging Face's Trainer lacks: tasks, exact resume, EMA, reports.

The names that open a recipe are importable from here too.
"""

from ..recipes.loading import load_recipe, recipe_of
from ..recipes.schema import Recipe
from ..recipes.shipped import shipped_recipes
from .consolidation import Consolidated, consolidate
from .run import RunResult, train
from .seeds import SeedsResult, train_seeds

__all__ = [
    "Consolidated",
    "Recipe",
    "RunResult",
    "SeedsResult",
    "consolidate",
    "load_recipe",
    "recipe_of",
    "shipped_recipes",
    "train",
    "train_seeds",
]
