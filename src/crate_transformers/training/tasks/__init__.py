"""The tasks that a run can train for: each brings its data, model, batches, metrics and sections of the report.

recipes/tasks/ holds the table of their names, and declares what a recipe may say to each.
"""

from pathlib import Path

from ..._lazy import load_by_name
from ...recipes.schema import Recipe
from ...recipes.tasks import task_declaration
from .base import CACHE, Task


def task_of(recipe: Recipe, output: Path) -> Task:
    """Make the task of a recipe: open its data and build its model.

    Args:
        output: the folder of the run, where the task keeps its cache.

    Raises:
        ValueError: data or a model that does not fit the recipe.
    """
    kind: type[Task] = load_by_name(task_declaration(recipe.task).runs)
    return kind(recipe, output)


__all__ = ["CACHE", "Task", "task_of"]
