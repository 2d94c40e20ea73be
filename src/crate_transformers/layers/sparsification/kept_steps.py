"""The one scope in which the matrix of an ISTA step outlives a forward."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .ista import SparseCoding


@contextmanager
def kept_step_matrices(model: nn.Module) -> Iterator[None]:
    """Within, every square ISTA step of the model is one product, with a matrix that is built once, here.

    For inference on few tokens at a time (generation). Edits of a dictionary inside the scope are not seen; after it
    nothing is kept. Gradients do not pass through the kept matrices.
    """
    codings = [part for part in model.modules() if isinstance(part, SparseCoding)]
    try:
        with torch.no_grad():
            for coding in codings:
                coding.keep_step()
        yield
    finally:
        for coding in codings:
            coding.kept_step = None


__all__ = ["kept_step_matrices"]
