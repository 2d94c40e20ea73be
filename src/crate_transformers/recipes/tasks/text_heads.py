"""What a recipe may say to the four tasks that fine-tune a text model about the columns of their tables."""

from dataclasses import dataclass

from ..options import option
from .declaration import TaskDeclaration
from .text import TextData


@dataclass
class TextHeadData(TextData):
    """The options of the `data` section.

    Attributes:
        second_text_column: the column of the second text, for pairs of texts.
        label_column: the column of the labels; None finds it by the usual names.
    """

    second_text_column: str | None = option(None, after="text_column")
    label_column: str | None = option(None, after="second_text_column")


def _declare(runs: str) -> TaskDeclaration:
    return TaskDeclaration(runs=f"crate_transformers.training.tasks.{runs}", data=TextHeadData)


SEQUENCE_CLASSIFICATION = _declare("sequence_classification:SequenceClassification")
TOKEN_CLASSIFICATION = _declare("token_classification:TokenClassification")
MULTIPLE_CHOICE = _declare("multiple_choice:MultipleChoice")
QUESTION_ANSWERING = _declare("question_answering:QuestionAnswering")

__all__ = [
    "MULTIPLE_CHOICE",
    "QUESTION_ANSWERING",
    "SEQUENCE_CLASSIFICATION",
    "TOKEN_CLASSIFICATION",
    "TextHeadData",
]
