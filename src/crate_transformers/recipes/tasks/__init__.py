"""The table of tasks. A new task is a line here, and two files.

The file in this folder declares what a recipe may say to the task; the file in training/tasks/ runs it.
"""

from dataclasses import Field, fields

from ..._lazy import load_by_name
from ..limits import Limits
from ..options import in_written_order
from .declaration import TaskDeclaration

# name -> "module:name" of its declaration
TASKS: dict[str, str] = {
    "image-classification": "crate_transformers.recipes.tasks.image_classification:TASK",
    "masked-image-modeling": "crate_transformers.recipes.tasks.masked_image_modeling:TASK",
    "self-distillation": "crate_transformers.recipes.tasks.self_distillation:TASK",
    "masked-language-modeling": "crate_transformers.recipes.tasks.language_modeling:MASKED",
    "causal-language-modeling": "crate_transformers.recipes.tasks.language_modeling:CAUSAL",
    "sequence-classification": "crate_transformers.recipes.tasks.text_heads:SEQUENCE_CLASSIFICATION",
    "token-classification": "crate_transformers.recipes.tasks.text_heads:TOKEN_CLASSIFICATION",
    "multiple-choice": "crate_transformers.recipes.tasks.text_heads:MULTIPLE_CHOICE",
    "question-answering": "crate_transformers.recipes.tasks.text_heads:QUESTION_ANSWERING",
}


def task_declaration(task: str) -> TaskDeclaration:
    """The declaration of a task of `TASKS`."""
    declaration = load_by_name(TASKS[task])
    assert isinstance(declaration, TaskDeclaration)
    return declaration


def known_options(section: str) -> dict[str, Field]:
    """Name -> field of every option of a section ("data" or "train") of all tasks, in the order of a written recipe."""
    return in_written_order(getattr(task_declaration(task), section) for task in TASKS)


def argument_limits() -> dict[str, Limits]:
    """Name -> limits of those arguments of transformers that only some tasks read."""
    return {name: limits for task in TASKS for name, limits in task_declaration(task).arguments.items()}


def readers_of(section: str, name: str) -> list[str]:
    """The tasks that read an option or an argument of transformers; all tasks where none declares it."""
    found = []
    for task in TASKS:
        declaration = task_declaration(task)
        options = {declared.name for declared in fields(getattr(declaration, section))}
        if name in options or (section == "train" and name in declaration.arguments):
            found.append(task)
    return found or list(TASKS)


__all__ = [
    "TASKS",
    "TaskDeclaration",
    "argument_limits",
    "known_options",
    "readers_of",
    "task_declaration",
]
