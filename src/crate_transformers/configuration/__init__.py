"""Configurations of the CRATE families, the one table of published sizes, the one table of families."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .configuration_crate import CrateConfig
    from .configuration_crate_mae import CrateMAEConfig
    from .configuration_crate_vision import CrateVisionConfig
    from .configuration_tost import TostConfig
    from .configuration_tost_vision import TostVisionConfig
    from .families import MODEL_FAMILIES
    from .sizes import SIZES, heads_of_width, size_fields

__all__ = [
    "MODEL_FAMILIES",
    "SIZES",
    "CrateConfig",
    "CrateMAEConfig",
    "CrateVisionConfig",
    "TostConfig",
    "TostVisionConfig",
    "heads_of_width",
    "size_fields",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CrateConfig": "configuration_crate",
        "CrateMAEConfig": "configuration_crate_mae",
        "CrateVisionConfig": "configuration_crate_vision",
        "TostConfig": "configuration_tost",
        "TostVisionConfig": "configuration_tost_vision",
        "MODEL_FAMILIES": "families",
        **dict.fromkeys(("SIZES", "heads_of_width", "size_fields"), "sizes"),
    },
)
