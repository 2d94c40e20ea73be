"""What a run trains for: each task brings its data, model, batches, metrics and pages of the report."""

from collections.abc import Callable
from pathlib import Path

from ..recipe import Recipe
from .base import CACHE, Task


def task_of(recipe: Recipe, output: Path) -> Task:
    """The task of a recipe, with its data opened and its model built; what it caches goes to `output`.

    Raises:
        ValueError: data or a model that does not fit the recipe.
    """
    return _builders()[recipe.task](recipe, output)


def _builders() -> dict[str, Callable[[Recipe, Path], Task]]:
    from .image_classification import ImageClassification  # each pulls in its own libraries
    from .language_modeling import LanguageModeling
    from .masked_image_modeling import MaskedImageModeling
    from .self_distillation import SelfDistillationTask
    from .text_heads import TextHead

    return {
        "image-classification": ImageClassification,
        "masked-image-modeling": MaskedImageModeling,
        "self-distillation": SelfDistillationTask,
        "masked-language-modeling": LanguageModeling,
        "causal-language-modeling": LanguageModeling,
        "sequence-classification": TextHead,
        "token-classification": TextHead,
        "multiple-choice": TextHead,
        "question-answering": TextHead,
    }


__all__ = ["CACHE", "Task", "task_of"]
