"""One step of the objective, one module: compress (MSSA), sparsify (ISTA), the layer of both, the embeddings."""

from .attention import SubspaceAttention
from .cache import store_one_tensor
from .embeddings import ConvPatchEmbeddings, NormalizedPatchEmbeddings, TextEmbeddings, VisionEmbeddings
from .kernel import mssa_attention
from .layer import Compression, CrateDecoderLayer, CrateLayer
from .linear import Linear
from .positions import resample_positions, sincos_positions
from .sparsification import SparseCoding, Sparsification, kept_step_matrices

__all__ = [
    "Compression",
    "ConvPatchEmbeddings",
    "CrateDecoderLayer",
    "CrateLayer",
    "Linear",
    "NormalizedPatchEmbeddings",
    "SparseCoding",
    "Sparsification",
    "SubspaceAttention",
    "TextEmbeddings",
    "VisionEmbeddings",
    "kept_step_matrices",
    "mssa_attention",
    "resample_positions",
    "sincos_positions",
    "store_one_tensor",
]
