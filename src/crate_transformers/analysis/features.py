"""Features of patches in the subspaces of a layer, and their principal components.

Shapes: B batch, K heads, p head_dim, (rows, columns) the patch grid, P = rows * columns.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from .attention import segmentation_layer
from .tracing import trace_batches


@dataclass(frozen=True)
class PatchFeatures:
    """Subspace features of the patches: features (B, P, K p) float32 on the CPU; grid (rows, columns); layer from 0.

    Example:
        >>> PatchFeatures(torch.zeros(2, 15, 384), grid=(3, 5), layer=10).features.shape
        torch.Size([2, 15, 384])
    """

    features: Tensor
    grid: tuple[int, int]
    layer: int


def patch_features(
    model: nn.Module, images: Tensor, layer: int | None = None, head: int | None = None, batch_size: int = 16
) -> PatchFeatures:
    """Projections W = U^T LN(Z) of the patch tokens, all heads side by side, or one.

    Args:
        model: an image model that `trace_batches` takes. images: (B, C, H, W), of any size from one patch up.
        layer: None is the second-to-last. head: None is all.

    Raises:
        ValueError: a layer or head that does not exist; an image smaller than a patch.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> patch_features(model, torch.rand(2, 3, 32, 32)).features.shape  # images, patches, heads x width of a head
        torch.Size([2, 16, 384])
    """
    layer = segmentation_layer(model, layer)
    parts, grid = [], None
    for record in trace_batches(model, images, ("projections",), batch_size=batch_size):
        if record.grid is None:
            raise UserError("patch features need images: this model reads text")
        grid = record.grid
        projections = record.layers[layer].get("projections")[:, :, record.prefix :].float().cpu()  # (B, K, P, p)
        heads = projections.shape[1]
        if head is not None:
            if not 0 <= head < heads:
                raise UserError(f"there is no head {head}: the model has {heads}, numbered 0 to {heads - 1}")
            projections = projections[:, head : head + 1]
        parts.append(projections.transpose(1, 2).flatten(2))
    assert grid is not None
    return PatchFeatures(torch.cat(parts), grid, layer)


@dataclass(frozen=True)
class PatchComponents:
    """Principal components of patches, fitted jointly over the images.

    Attributes:
        first: (B, rows, columns), the first component over all patches, its sign such that the border of the images
            is low on average.
        foreground: (B, rows, columns) bool, first > 0.
        colors: (B, rows, columns, 3) in [0, 1], three components over the foreground patches; 0 elsewhere.
        explained: fraction of the variance in the first component, then in each of the three.

    Example:
        >>> components = joint_pca(PatchFeatures(torch.randn(2, 15, 7), grid=(3, 5), layer=10))
        >>> components.first.shape, len(components.explained)
        (torch.Size([2, 3, 5]), 4)
    """

    first: Tensor
    foreground: Tensor
    colors: Tensor
    explained: tuple[float, ...]


def _fit(points: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """(scores (n, components), explained fractions); components that the points do not have are zero."""
    from sklearn.decomposition import PCA  # heavy

    possible = min(components, *points.shape)
    scores, explained = np.zeros((len(points), components)), np.zeros(components)
    total = points.var(axis=0).sum()
    if possible > 0 and total > 0:
        pca = PCA(possible, svd_solver="covariance_eigh").fit(points)
        scores[:, :possible] = pca.transform(points)
        explained[:possible] = pca.explained_variance_ratio_ if len(points) > 1 else 0
    return scores, explained


def colors_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three principal components of points (n, features) as colours (n, 3) in [0, 1], and their explained fractions.

    Each runs from its 1st to its 99th percentile.
    """
    if not len(points):
        return np.zeros((0, 3)), np.zeros(3)
    scores, explained = _fit(points, 3)
    low, high = np.percentile(scores, [1, 99], axis=0)
    return np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1), explained


def joint_pca(patches: PatchFeatures) -> PatchComponents:
    """Foreground by the first component, three components as colours, both fitted jointly over all images.

    Two fits: over all patches, whose first component parts foreground from background; then over the foreground alone.
    The colours run from the 1st to the 99th percentile of each component.

    Example:
        >>> joint_pca(PatchFeatures(torch.randn(2, 15, 7), grid=(3, 5), layer=10)).colors.shape
        torch.Size([2, 3, 5, 3])

    Source: the recipe of arXiv 2304.07193, section 7.5, applied to the subspace features, arXiv 2308.16271, section 4.
    """
    batch, (rows, columns) = patches.features.shape[0], patches.grid
    points = patches.features.double().flatten(0, 1).numpy()  # (B P, K p)
    scores, explained = _fit(points, 1)
    first = scores[:, 0].reshape(batch, rows, columns)
    border = np.zeros((rows, columns), dtype=bool)
    border[[0, -1]], border[:, [0, -1]] = True, True
    inside = first[:, ~border]
    if inside.size and first[:, border].mean() > inside.mean():
        first = -first
    foreground = first > 0
    colors = np.zeros((batch, rows, columns, 3))
    colors[foreground], own_explained = colors_of(points[foreground.ravel()])
    return PatchComponents(
        first=torch.from_numpy(first.copy()).float(),
        foreground=torch.from_numpy(foreground.copy()),
        colors=torch.from_numpy(colors).float(),
        explained=(float(explained[0]), *map(float, own_explained)),
    )


__all__ = ["PatchComponents", "PatchFeatures", "colors_of", "joint_pca", "patch_features"]
