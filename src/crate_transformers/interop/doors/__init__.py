"""Doors to other libraries: one file a library, each imported only when it is asked for."""
