"""What is there without a model: masks at random, and xz."""

import lzma
from pathlib import Path
from typing import Any

from crate_transformers.data.text import load_text_source
from crate_transformers.evaluation.compression import xz_bits_per_byte

from .measures import of_chance
from .pictures import outlines_of


def chance(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Scores of masks at random, of as many heads and layers as the models have, and of the whole picture."""
    truths = outlines_of(folder)[: content["pictures"]]
    grid = (content["grid"], content["grid"])
    return {"emergence": of_chance(truths, content["layers"], content["heads"], grid, content["seed"])}


def xz(content: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte of xz -9 on the test part of the text, alone and after the training part that models see."""
    splits = load_text_source(content["source"], seed=content["seed"])
    seen, new = ("".join(part.pieces()).encode() for part in (splits.train, splits.test))
    more = len(lzma.compress(seen + new, preset=9)) - len(lzma.compress(seen, preset=9))
    return {"alone": xz_bits_per_byte(splits.test), "after_training_text": 8 * more / len(new), "test_bytes": len(new)}


BASELINES = {"chance": "masks at random", "xz": "xz -9"}

__all__ = ["BASELINES", "chance", "xz"]
