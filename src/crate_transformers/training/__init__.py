"""What Hugging Face's Trainer lacks: recipes, exact resume, EMA, reports, probes."""

from .recipe import Recipe, load_recipe, recipe_of, shipped_recipes
from .run import RunResult, train

__all__ = ["Recipe", "RunResult", "load_recipe", "recipe_of", "shipped_recipes", "train"]
