"""From images and text to the first tokens."""

from .patches import ConvPatchEmbeddings, NormalizedPatchEmbeddings, patchify, unpatchify
from .positions import resample_positions, sincos_positions
from .text import TextEmbeddings
from .vision import VisionEmbeddings

__all__ = [
    "ConvPatchEmbeddings",
    "NormalizedPatchEmbeddings",
    "TextEmbeddings",
    "VisionEmbeddings",
    "patchify",
    "resample_positions",
    "sincos_positions",
    "unpatchify",
]
