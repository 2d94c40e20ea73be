"""crate_transformers: CRATE, the white-box transformer of sparse rate reduction, as Hugging Face models.

Importing the package makes the CRATE model types known to transformers' Auto classes; what is heavy is loaded when
it is first used.
"""

import importlib
from typing import Any

from ._registration import register_when_loaded

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    **dict.fromkeys(("CrateConfig", "CrateMAEConfig", "CrateVisionConfig"), "configuration"),
    **dict.fromkeys(
        (
            "CrateForCausalLM",
            "CrateForImageClassification",
            "CrateForMaskedLM",
            "CrateForMultipleChoice",
            "CrateForQuestionAnswering",
            "CrateForSequenceClassification",
            "CrateForTokenClassification",
            "CrateMAEForPreTraining",
            "CrateMAEModel",
            "CrateModel",
            "CrateVisionModel",
        ),
        "models",
    ),
    **dict.fromkeys(
        (
            "CRATE",
            "convert_checkpoint",
            "fuse",
            "mae_crate_base",
            "mae_crate_large",
            "mae_crate_small",
            "mae_crate_tiny",
        ),
        "interop",
    ),
}
_ROOMS = (
    "analysis", "bench", "configuration", "data", "evaluation", "interop", "layers", "models", "objective", "recipes",
    "training",
)  # fmt: skip

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]


register_when_loaded()
