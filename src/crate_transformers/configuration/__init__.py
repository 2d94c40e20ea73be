"""Configurations of the CRATE families and the one table of published sizes."""

from .configuration_crate import CrateConfig
from .configuration_crate_mae import CrateMAEConfig
from .configuration_crate_vision import CrateVisionConfig
from .sizes import SIZES, heads_of_width, size_fields

__all__ = ["SIZES", "CrateConfig", "CrateMAEConfig", "CrateVisionConfig", "heads_of_width", "size_fields"]
