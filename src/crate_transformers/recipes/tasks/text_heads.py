"""What a recipe may say to the four tasks that fine-tune a text model: which columns hold what."""

from dataclasses import dataclass

from ..options import option
from .declaration import TaskDeclaration
from .text import TextData


@dataclass
class TextHeadData(TextData):
    """second_text_column: of pairs of texts. label_column: None is the usual name of it."""

    second_text_column: str | None = option(None, after="text_column")
    label_column: str | None = option(None, after="second_text_column")


TASK = TaskDeclaration(runs="crate_transformers.training.tasks.text_heads:TextHead", data=TextHeadData)

__all__ = ["TASK", "TextHeadData"]
