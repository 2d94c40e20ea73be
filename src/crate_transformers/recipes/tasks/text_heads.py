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
