"""crate_transformers: CRATE, the white-box transformer of sparse rate reduction, as Hugging Face models.

Importing the package makes the CRATE model types known to transformers' Auto classes; what is heavy is loaded when
it is first used.
"""

from typing import TYPE_CHECKING

from ._lazy import lazy_names
from ._registration import register_when_loaded
from .configuration.families import MODEL_FAMILIES

if TYPE_CHECKING:  # the same names, for static readers
    from .configuration import CrateConfig, CrateMAEConfig, CrateVisionConfig, TostConfig, TostVisionConfig
    from .interop import (
        CRATE,
        convert_checkpoint,
        crate_lora_config,
        fuse,
        mae_crate_base,
        mae_crate_large,
        mae_crate_small,
        mae_crate_tiny,
    )
    from .models import (
        CrateForCausalLM,
        CrateForImageClassification,
        CrateForMaskedLM,
        CrateForMultipleChoice,
        CrateForQuestionAnswering,
        CrateForSequenceClassification,
        CrateForTokenClassification,
        CrateMAEBackbone,
        CrateMAEForPreTraining,
        CrateMAEModel,
        CrateModel,
        CrateVisionBackbone,
        CrateVisionModel,
        TostForCausalLM,
        TostForImageClassification,
        TostModel,
        TostVisionBackbone,
        TostVisionModel,
    )

__version__ = "0.1.0"

__all__ = [
    "CRATE",
    "CrateConfig",
    "CrateForCausalLM",
    "CrateForImageClassification",
    "CrateForMaskedLM",
    "CrateForMultipleChoice",
    "CrateForQuestionAnswering",
    "CrateForSequenceClassification",
    "CrateForTokenClassification",
    "CrateMAEBackbone",
    "CrateMAEConfig",
    "CrateMAEForPreTraining",
    "CrateMAEModel",
    "CrateModel",
    "CrateVisionBackbone",
    "CrateVisionConfig",
    "CrateVisionModel",
    "TostConfig",
    "TostForCausalLM",
    "TostForImageClassification",
    "TostModel",
    "TostVisionBackbone",
    "TostVisionConfig",
    "TostVisionModel",
    "__version__",
    "convert_checkpoint",
    "crate_lora_config",
    "fuse",
    "mae_crate_base",
    "mae_crate_large",
    "mae_crate_small",
    "mae_crate_tiny",
]

_ROOMS = (
    "analysis", "bench", "configuration", "data", "evaluation", "interop", "layers", "models", "objective", "ops",
    "recipes", "report", "timm", "training",
)  # fmt: skip
_DOORS = (
    "CRATE",
    "convert_checkpoint",
    "crate_lora_config",
    "fuse",
    *(f"mae_crate_{size}" for size in ("tiny", "small", "base", "large")),
)
_PUBLIC = {name: room for family in MODEL_FAMILIES.values() for name, room in family.public_names().items()}

__getattr__, __dir__ = lazy_names(__name__, {**_PUBLIC, **dict.fromkeys(_DOORS, "interop")}, _ROOMS)

register_when_loaded()
