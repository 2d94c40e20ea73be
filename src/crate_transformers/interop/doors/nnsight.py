"""nnsight: names for the parts of a model that its own names hide.

nnsight serves `.output` on every module, and some blocks have a map of that name: O of a compression, the second map of
an MLP. There nnsight calls the map `E_output`; with this table it is `output_map` as well.

Source: arXiv 2407.14561.
"""

NNSIGHT_NAMES = {"E_output": "output_map"}  # the `rename` of nnsight

__all__ = ["NNSIGHT_NAMES"]
