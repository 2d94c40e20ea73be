"""Hugging Face models of the CRATE families; importing this package registers them with the Auto classes."""

from .auto import register_auto_classes
from .modeling_backbones import CrateMAEBackbone, CrateVisionBackbone, TostVisionBackbone
from .modeling_crate import CrateForCausalLM, CrateForMaskedLM, CrateModel
from .modeling_crate_heads import (
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
)
from .modeling_crate_mae import CrateMAEForPreTraining, CrateMAEModel
from .modeling_crate_vision import CrateForImageClassification, CrateVisionModel
from .modeling_tost import TostForCausalLM, TostModel
from .modeling_tost_vision import TostForImageClassification, TostVisionModel

register_auto_classes()

__all__ = [
    "CrateForCausalLM",
    "CrateForImageClassification",
    "CrateForMaskedLM",
    "CrateForMultipleChoice",
    "CrateForQuestionAnswering",
    "CrateForSequenceClassification",
    "CrateForTokenClassification",
    "CrateMAEBackbone",
    "CrateMAEForPreTraining",
    "CrateMAEModel",
    "CrateModel",
    "CrateVisionBackbone",
    "CrateVisionModel",
    "TostForCausalLM",
    "TostForImageClassification",
    "TostModel",
    "TostVisionBackbone",
    "TostVisionModel",
]
