"""Rows of csv and json files and of the hub, with the types that the files have."""

from .loading import load_tables, take

__all__ = ["load_tables", "take"]
