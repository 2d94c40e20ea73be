"""Other people's checkpoints and libraries: key maps, conversion, the constructors that people know."""

from .constructors import CRATE, mae_crate_base, mae_crate_large, mae_crate_small, mae_crate_tiny
from .convert import Conversion, convert_checkpoint, convert_to_folder
from .doors.peft import crate_lora_config
from .export import export_model, export_program
from .fusion import fuse
from .loading import load_state_dict
from .transfer import classifier_of_autoencoder

__all__ = [
    "CRATE",
    "Conversion",
    "classifier_of_autoencoder",
    "convert_checkpoint",
    "convert_to_folder",
    "crate_lora_config",
    "export_model",
    "export_program",
    "fuse",
    "load_state_dict",
    "mae_crate_base",
    "mae_crate_large",
    "mae_crate_small",
    "mae_crate_tiny",
]
