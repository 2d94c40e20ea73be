"""From the cache of runs to the one file of results that the pages are made of."""

import platform
from pathlib import Path
from typing import Any

import torch
import transformers

import crate_transformers


def versions() -> dict[str, Any]:
    """What made a run."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU {platform.machine()}"
    return {
        "versions": {
            "crate_transformers": crate_transformers.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "device": device,
    }


def collect(experiments: Any, results: Any, output: Path, command: str) -> Path:
    return output
