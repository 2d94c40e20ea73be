"""Blocks that compress, each a file, found by name (configuration/blocks.py), and the step around them."""

from .block import CompressionOperator
from .mssa import SubspaceAttention
from .step import Compression, OperatorStep

__all__ = ["Compression", "CompressionOperator", "OperatorStep", "SubspaceAttention"]
