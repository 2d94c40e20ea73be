"""One step of the objective, one module: compress, sparsify, the layer of both, the embeddings."""

from .attention_names import mssa_attention
from .block import Block
from .class_attention import ClassAttention, ClassAttentionLayer
from .compression import Compression, CompressionOperator, SubspaceAttention, SubspaceOperator, TokenStatisticsAttention
from .decoder_layer import CrateDecoderLayer, Expansion, LinearDictionary
from .embeddings import (
    ConvPatchEmbeddings,
    ConvStage,
    ConvStemEmbeddings,
    NormalizedPatchEmbeddings,
    TextEmbeddings,
    TostEmbeddings,
    VisionEmbeddings,
    fourier_positions,
    patchify,
    resample_positions,
    sincos_positions,
    unpatchify,
)
from .increment import DropPath, LayerScale
from .layer import CrateLayer
from .linear import Linear
from .normalized_linear import NormalizedLinear
from .sparsification import FeedForward, SparseCoding, Sparsification, SparsificationStep, kept_step_matrices

__all__ = [
    "Block",
    "ClassAttention",
    "ClassAttentionLayer",
    "Compression",
    "CompressionOperator",
    "ConvPatchEmbeddings",
    "ConvStage",
    "ConvStemEmbeddings",
    "CrateDecoderLayer",
    "CrateLayer",
    "DropPath",
    "Expansion",
    "FeedForward",
    "LayerScale",
    "Linear",
    "LinearDictionary",
    "NormalizedLinear",
    "NormalizedPatchEmbeddings",
    "SparseCoding",
    "Sparsification",
    "SparsificationStep",
    "SubspaceAttention",
    "SubspaceOperator",
    "TextEmbeddings",
    "TokenStatisticsAttention",
    "TostEmbeddings",
    "VisionEmbeddings",
    "fourier_positions",
    "kept_step_matrices",
    "mssa_attention",
    "patchify",
    "resample_positions",
    "sincos_positions",
    "unpatchify",
]
