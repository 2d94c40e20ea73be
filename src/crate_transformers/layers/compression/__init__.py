"""Blocks that compress, each a file, found by name (configuration/blocks.py), and the step around them."""

from .attention import AttentionOperator
from .block import CompressionOperator
from .cbsa import ContractBroadcastAttention
from .mhsa import MultiHeadAttention
from .mssa import SubspaceAttention
from .step import Compression, OperatorStep
from .subspace_operator import SubspaceOperator
from .tssa import TokenStatisticsAttention

__all__ = [
    "AttentionOperator",
    "Compression",
    "CompressionOperator",
    "ContractBroadcastAttention",
    "MultiHeadAttention",
    "OperatorStep",
    "SubspaceAttention",
    "SubspaceOperator",
    "TokenStatisticsAttention",
]
