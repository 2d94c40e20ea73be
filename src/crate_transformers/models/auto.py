"""Registration with transformers' Auto classes, so that `AutoModel...from_pretrained` finds CRATE."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ViTImageProcessor,
)

from ..configuration import CrateConfig, CrateMAEConfig, CrateVisionConfig
from . import modeling_crate as text
from . import modeling_crate_heads as heads
from . import modeling_crate_mae as mae
from . import modeling_crate_vision as vision


def register_auto_classes() -> None:
    """Register configurations, models and the image processor; calling it again changes nothing."""
    for config in (CrateConfig, CrateVisionConfig, CrateMAEConfig):
        AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto_class, config, model in (
        (AutoModel, CrateConfig, text.CrateModel),
        (AutoModelForMaskedLM, CrateConfig, text.CrateForMaskedLM),
        (AutoModelForCausalLM, CrateConfig, text.CrateForCausalLM),
        (AutoModelForSequenceClassification, CrateConfig, heads.CrateForSequenceClassification),
        (AutoModelForMultipleChoice, CrateConfig, heads.CrateForMultipleChoice),
        (AutoModelForTokenClassification, CrateConfig, heads.CrateForTokenClassification),
        (AutoModelForQuestionAnswering, CrateConfig, heads.CrateForQuestionAnswering),
        (AutoModel, CrateVisionConfig, vision.CrateVisionModel),
        (AutoModelForImageClassification, CrateVisionConfig, vision.CrateForImageClassification),
        (AutoModel, CrateMAEConfig, mae.CrateMAEModel),
        (AutoModelForPreTraining, CrateMAEConfig, mae.CrateMAEForPreTraining),
    ):
        auto_class.register(config, model, exist_ok=True)
    for config in (CrateVisionConfig, CrateMAEConfig):
        AutoImageProcessor.register(config, slow_image_processor_class=ViTImageProcessor, exist_ok=True)


__all__ = ["register_auto_classes"]
