"""What a recipe may say to language modelling, masked and causal."""

from dataclasses import dataclass

from ..limits import Limits
from ..options import TrainOptions, option
from .declaration import TaskDeclaration
from .text import TextData

_RUNS = "crate_transformers.training.tasks.language_modeling:LanguageModeling"


@dataclass
class LanguageData(TextData):
    """The options of the `data` section.

    Attributes:
        streaming: whether the text is read during the training, and not before it.
        cache_dir: the folder of the tokens; None is in the folder of the run.
    """

    streaming: bool = option(False, after="context_length")
    cache_dir: str | None = None


@dataclass
class MaskedLanguageData(LanguageData):
    """The options of the `data` section of the masked task.

    Attributes:
        mask_probability: probability with which a token is one of those that the model predicts.
    """

    mask_probability: float = option(0.15, after="context_length")


@dataclass
class CausalLanguageTrain(TrainOptions):
    """The options of the `train` section of the causal task.

    Attributes:
        sample_every: steps between two samples of the model's text in the report; 0 writes none.
    """

    sample_every: int = option(0, Limits(0), after="measure_every")


MASKED = TaskDeclaration(runs=_RUNS, data=MaskedLanguageData)
CAUSAL = TaskDeclaration(runs=_RUNS, data=LanguageData, train=CausalLanguageTrain)

__all__ = ["CAUSAL", "MASKED", "CausalLanguageTrain", "LanguageData", "MaskedLanguageData"]
