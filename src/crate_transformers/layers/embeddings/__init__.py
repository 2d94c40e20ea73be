"""From images and text to the first tokens."""

from .patches import ConvPatchEmbeddings, NormalizedPatchEmbeddings, patchify, unpatchify
from .positions import fourier_positions, resample_positions, sincos_positions
from .stem import ConvStage, ConvStemEmbeddings
from .text import TextEmbeddings
from .tost import TostEmbeddings
from .vision import VisionEmbeddings

__all__ = [
    "ConvPatchEmbeddings",
    "ConvStage",
    "ConvStemEmbeddings",
    "NormalizedPatchEmbeddings",
    "TextEmbeddings",
    "TostEmbeddings",
    "VisionEmbeddings",
    "fourier_positions",
    "patchify",
    "resample_positions",
    "sincos_positions",
    "unpatchify",
]
