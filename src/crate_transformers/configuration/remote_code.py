"""What lets a saved folder load in a process that never imported this package: `trust_remote_code=True`.

transformers reads `auto_map` of config.json, and takes the classes that it names from a file of the folder. That file
holds no code: it imports the classes from this package. Where the package is missing, transformers names it.
"""

import json
from pathlib import Path

from .families import ModelFamily

CODE_FILE = "crate_code.py"


def auto_map_of(family: ModelFamily) -> dict[str, str]:
    """Auto class -> "file.Class" of a family, as config.json holds it.

    Example:
        >>> from crate_transformers.configuration import MODEL_FAMILIES
        >>> auto_map_of(MODEL_FAMILIES["tost"])["AutoModelForCausalLM"]
        'crate_code.TostForCausalLM'
    """
    places = {"AutoConfig": family.config, **family.models}
    stem = Path(CODE_FILE).stem
    return {auto_class: f"{stem}.{place.partition(':')[2]}" for auto_class, place in places.items()}


def code_of(family: ModelFamily) -> bytes:
    """The file that imports the classes of a family from this package."""
    names = sorted(family.public_names())
    lines = [
        '"""The classes of this model. They are in the package crate-transformers: pip install crate-transformers"""',
        f"\nfrom crate_transformers import {', '.join(names)}",
        f"\n__all__ = {json.dumps(names)}\n",
    ]
    return "\n".join(lines).encode()


__all__ = ["CODE_FILE", "auto_map_of", "code_of"]
