"""The one scope in which the matrix of an ISTA step outlives a forward."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..adapters import is_adapter
from .ista import SparseCoding


@contextmanager
def kept_step_matrices(model: nn.Module) -> Iterator[None]:
    """Within, every square ISTA step of the model is one product, with a matrix that is built once, here.

    For inference on few tokens at a time (generation). Edits of a dictionary inside the scope are not seen; after it
    nothing is kept. Gradients do not pass through the kept matrices. A dictionary that carries an adapter keeps
    none: its step is taken with what the adapter adds.
    """
    parts: list[Any] = list(model.modules())
    adapted = {id(part.base_layer) for part in parts if is_adapter(part)}
    codings = [part for part in parts if isinstance(part, SparseCoding) and id(part) not in adapted]
    try:
        with torch.no_grad():
            for coding in codings:
                coding.keep_step()
        yield
    finally:
        for coding in codings:
            coding.kept_step = None


__all__ = ["kept_step_matrices"]
