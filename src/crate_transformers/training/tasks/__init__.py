"""What a run trains for: each task brings its data, model, batches, metrics and pages of the report."""

from collections.abc import Callable

from ..recipe import Recipe
from .base import Task


def task_of(recipe: Recipe) -> Task:
    """The task of a recipe, with its data opened and its model built.

    Raises:
        ValueError: data or a model that does not fit the recipe.
    """
    return _builders()[recipe.task](recipe)


def _builders() -> dict[str, Callable[[Recipe], Task]]:
    from .image_classification import ImageClassification  # each pulls in its own libraries

    return {"image-classification": ImageClassification}


__all__ = ["Task", "task_of"]
