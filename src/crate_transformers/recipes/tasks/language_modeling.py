"""What a recipe may say to language modelling, masked and causal."""

from dataclasses import dataclass

from ..limits import Limits
from ..options import TrainOptions, option
from .declaration import TaskDeclaration
from .text import TextData

_RUNS = "crate_transformers.training.tasks.language_modeling:LanguageModeling"


@dataclass
class LanguageData(TextData):
    """streaming: whether the text is read as it is trained on. cache_dir: where tokens are kept; None is the run's."""

    streaming: bool = option(False, after="context_length")
    cache_dir: str | None = None


@dataclass
class MaskedLanguageData(LanguageData):
    """mask_probability: of each token to be predicted."""

    mask_probability: float = option(0.15, after="context_length")


@dataclass
class CausalLanguageTrain(TrainOptions):
    """sample_every: steps between two samples of the model's text in the report; 0 is none."""

    sample_every: int = option(0, Limits(0), after="measure_every")


MASKED = TaskDeclaration(runs=_RUNS, data=MaskedLanguageData)
CAUSAL = TaskDeclaration(runs=_RUNS, data=LanguageData, train=CausalLanguageTrain)

__all__ = ["CAUSAL", "MASKED", "CausalLanguageTrain", "LanguageData", "MaskedLanguageData"]
