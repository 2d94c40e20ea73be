"""Silence for transformers' own bars and notices, under the name that training knows it by."""

from ..models.quiet import quiet_transformers

__all__ = ["quiet_transformers"]
