"""Text: running or labelled, read from files, tables and the hub, turned into tokens."""

from .parts import TextPart, TextSplits
from .sources import load_text_source

__all__ = ["TextPart", "TextSplits", "load_text_source"]
