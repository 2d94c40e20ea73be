"""MaskCut: several objects an image, by repeated normalised cuts of the patches' similarity graph.

    W_ij = 1 where cos(f_i, f_j) > threshold, else a small constant;   (D - W) x = lambda D x,   D = diag(W 1)

The eigenvector of the second-smallest eigenvalue parts the patches at its mean. The object is the side with the entry
of largest magnitude (the seed), unless that side holds most corners of the image; of it, the connected component of the
seed. Its patches leave the graph, and the next cut is made.

Where we differ: patches that are taken leave the graph (there, their features are set to zero); a cut whose eigenvalue
is near 1 is no cut, and ends the search; no conditional random field smooths the masks.

Shapes: P = rows * columns patches, f width of a feature.

Source: arXiv 2301.11320 (CutLER), section 3.2; the cut is that of arXiv 2202.11539 (TokenCut), eq. 1-3.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.ndimage import label
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from ..errors import UserError

_WEAK = 1e-5  # weight between patches that are not alike: the graph stays connected
_DENSE = 400  # patches up to which a dense eigensolver is as quick


@dataclass(frozen=True)
class ObjectMasks:
    """Objects of one image.

    Attributes:
        masks: (M, rows, columns) bool, disjoint, in the order they were found. scores: (M,), 1 - eigenvalue of the cut
            (1: parted cleanly; 0: not parted at all).

    Example:
        >>> len(ObjectMasks(masks=torch.zeros(2, 3, 5, dtype=torch.bool), scores=torch.ones(2)))
        2
    """

    masks: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return self.masks.shape[0]


def similarity_graph(features: Tensor, threshold: float) -> np.ndarray:
    """W (P, P) float64 of features (P, f); a zero feature is like nothing but itself."""
    points = features.double()
    norm = points.norm(dim=-1, keepdim=True)
    points = points / norm.masked_fill(norm == 0, 1)
    alike = (points @ points.T).numpy() > threshold
    np.fill_diagonal(alike, True)
    return np.where(alike, 1.0, _WEAK)


def second_eigenvector(weights: np.ndarray) -> tuple[float, np.ndarray]:
    """(eigenvalue, x (P,)) of (D - W) x = lambda D x, the second-smallest; x has D-norm 1. P >= 2."""
    degree = weights.sum(axis=1)
    scale = 1 / np.sqrt(degree)
    normalised = weights * scale[:, None] * scale[None, :]  # D^-1/2 W D^-1/2: its second-largest pair
    size = len(weights)
    if size <= _DENSE:
        values, vectors = eigh(normalised, subset_by_index=[size - 2, size - 2])
        value, vector = values[0], vectors[:, 0]
    else:
        known = np.sqrt(degree / degree.sum())  # the eigenvector of eigenvalue 1, taken out
        operator = LinearOperator((size, size), matvec=lambda x: normalised @ x - known * (known @ x), dtype=float)
        start = np.random.default_rng(0).standard_normal(size)
        values, vectors = eigsh(operator, k=1, which="LA", v0=start)
        value, vector = values[0], vectors[:, 0]
    return 1 - float(value), vector * scale


def _cut(weights: np.ndarray, left: np.ndarray, grid: tuple[int, int]) -> tuple[float, np.ndarray] | None:
    """One object among the patches `left` (P,) bool: (eigenvalue, mask (rows, columns)), or None."""
    eigenvalue, vector = second_eigenvector(weights[np.ix_(left, left)])
    values = np.zeros(left.shape)
    values[left] = vector - vector.mean()
    side = np.zeros(left.shape, dtype=bool)
    side[left] = vector > vector.mean()
    seed = int(np.abs(values).argmax())
    if not side[seed]:
        side, values = left & ~side, -values
    rows, columns = grid
    corners = [0, columns - 1, (rows - 1) * columns, rows * columns - 1]
    if side[corners].sum() > 2:
        side, values = left & ~side, -values
    if not side.any():
        return None
    seed = int(np.where(side, values, -np.inf).argmax())
    components, _ = label(side.reshape(grid))
    return eigenvalue, components == components.flat[seed]


def mask_cut(
    features: Tensor,
    grid: tuple[int, int],
    num_masks: int = 3,
    threshold: float = 0.15,
    min_patches: int = 1,
    max_eigenvalue: float = 0.95,
) -> ObjectMasks:
    """Find the objects of an image in the features of its patches.

    Args:
        features: (P, f), e.g. of `patch_features`. grid: (rows, columns), rows * columns = P.
        num_masks: at most so many objects, >= 1.
        threshold: cosine similarity above which two patches are alike, in [-1, 1).
        min_patches: the search ends at an object of fewer patches than this.
        max_eigenvalue: the search ends at a cut worse than this, in [0, 1].

    Returns:
        between 0 and `num_masks` objects.

    Raises:
        ValueError: a grid that does not fit, features that are not finite, numbers out of range.

    Example:
        >>> features = torch.eye(2)[torch.tensor([0, 0, 0, 0, 1, 0, 0, 0, 0])]
        >>> mask_cut(features, (3, 3)).masks.int().tolist()
        [[[0, 0, 0], [0, 1, 0], [0, 0, 0]]]

    Source: arXiv 2301.11320, section 3.2.
    """
    rows, columns = grid
    if features.ndim != 2 or features.shape[0] != rows * columns:
        raise UserError(f"features must be ({rows * columns}, width) for a grid of {grid}, got {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise UserError("features hold values that are not finite")
    if num_masks < 1:
        raise UserError(f"num_masks must be at least 1, got {num_masks}")
    if not -1 <= threshold < 1:
        raise UserError(f"threshold is a cosine, in [-1, 1), got {threshold}")
    weights = similarity_graph(features.detach().cpu(), threshold)
    left = np.ones(rows * columns, dtype=bool)
    masks: list[np.ndarray] = []
    scores: list[float] = []
    while len(masks) < num_masks and left.sum() >= 2:
        found = _cut(weights, left, grid)
        if found is None:
            break
        eigenvalue, mask = found
        if eigenvalue > max_eigenvalue or mask.sum() < min_patches:
            break
        masks.append(mask)
        scores.append(1 - eigenvalue)
        left &= ~mask.ravel()
    stacked = np.stack(masks) if masks else np.zeros((0, rows, columns), dtype=bool)
    return ObjectMasks(torch.from_numpy(stacked), torch.tensor(scores, dtype=torch.float64))


__all__ = ["ObjectMasks", "mask_cut", "second_eigenvector", "similarity_graph"]
