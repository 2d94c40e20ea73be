"""One step of the objective, one module: compress, sparsify, the layer of both, the embeddings."""

from .attention_names import mssa_attention
from .block import Block
from .compression import Compression, CompressionOperator, SubspaceAttention
from .decoder_layer import CrateDecoderLayer, Expansion, LinearDictionary
from .embeddings import (
    ConvPatchEmbeddings,
    NormalizedPatchEmbeddings,
    TextEmbeddings,
    VisionEmbeddings,
    patchify,
    resample_positions,
    sincos_positions,
    unpatchify,
)
from .layer import CrateLayer
from .linear import Linear
from .normalized_linear import NormalizedLinear
from .sparsification import SparseCoding, Sparsification, SparsificationStep, kept_step_matrices

__all__ = [
    "Block",
    "Compression",
    "CompressionOperator",
    "ConvPatchEmbeddings",
    "CrateDecoderLayer",
    "CrateLayer",
    "Expansion",
    "Linear",
    "LinearDictionary",
    "NormalizedLinear",
    "NormalizedPatchEmbeddings",
    "SparseCoding",
    "Sparsification",
    "SparsificationStep",
    "SubspaceAttention",
    "TextEmbeddings",
    "VisionEmbeddings",
    "kept_step_matrices",
    "mssa_attention",
    "patchify",
    "resample_positions",
    "sincos_positions",
    "unpatchify",
]
