"""What a run trains for: each task brings its data, model, batches, metrics and pages of the report.

What a recipe may say to a task, and the table of their names, is in recipes/tasks/.
"""

from pathlib import Path

from ..._lazy import load_by_name
from ...recipes.schema import Recipe
from ...recipes.tasks import task_declaration
from .base import CACHE, Task


def task_of(recipe: Recipe, output: Path) -> Task:
    """The task of a recipe, with its data opened and its model built; what it caches goes to `output`.

    Raises:
        ValueError: data or a model that does not fit the recipe.
    """
    kind: type[Task] = load_by_name(task_declaration(recipe.task).runs)
    return kind(recipe, output)


__all__ = ["CACHE", "Task", "task_of"]
