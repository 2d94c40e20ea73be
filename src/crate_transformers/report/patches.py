"""Figures of what a model makes of the patches of pictures: attention, head by head; heads by cluster; components.

Shapes: B images, L layers, K heads, (rows, columns) the patch grid, H x W pixels.
"""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from torch import Tensor

from .canvas import color_map
from .pictures import grown, overlay, paint_masks, picture_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PatchMaps(Protocol):
    """Attention over the patches, as `analysis.AttentionMaps` holds it."""

    @property
    def maps(self) -> Tensor:
        """(B, L, K, rows, columns), on the CPU."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers of the L layers, from 0."""

    @property
    def query(self) -> str | tuple[int, int]:
        """Which token looks: "cls", or (row, column) of a patch."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns)."""


class HeadGroups(Protocol):
    """Heads by group, as `analysis.HeadClusters` holds them."""

    @property
    def labels(self) -> tuple[int, ...]:
        """The group of every head, of all layers in their order."""

    def members(self, label: int) -> list[tuple[int, int]]:
        """(layer, head) of a group."""


class Components(Protocol):
    """Principal components of patches, as `analysis.PatchComponents` holds them."""

    @property
    def first(self) -> Tensor:
        """(B, rows, columns)."""

    @property
    def colors(self) -> Tensor:
        """(B, rows, columns, 3) in [0, 1]."""


def attention_figure(pictures: np.ndarray, attention: PatchMaps, layer: int) -> "Figure":
    """One row an image, one column a head: where the query of `attention` looks in a layer (number from 0)."""
    maps = attention.maps[:, attention.layers.index(layer)].numpy()  # (B, K, rows, columns)
    cells = [
        [_with_query(picture, attention), *(overlay(picture, heat) for heat in heads)]
        for picture, heads in zip(pictures, maps, strict=True)
    ]
    return picture_sheet(cells, ["image", *(f"head {head}" for head in range(maps.shape[1]))])


def _with_query(picture: np.ndarray, attention: PatchMaps) -> np.ndarray:
    """The picture, with a frame around the patch that the maps belong to."""
    if isinstance(attention.query, str):
        return picture
    (row, column), (rows, columns) = attention.query, attention.grid
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    mask = np.zeros(picture.shape[:2], dtype=bool)
    mask[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
    return paint_masks(picture, np.stack([np.zeros_like(mask), mask]), alpha=0.3)


def head_clusters_figure(pictures: np.ndarray, attention: PatchMaps, clusters: HeadGroups) -> "Figure":
    """One row an image, one column a cluster of heads: the mean map of its heads."""
    labels = sorted(set(clusters.labels))
    flat = attention.maps.flatten(1, 2).numpy()  # (B, L K, rows, columns), in the order of clusters.heads
    members = [[i for i, own in enumerate(clusters.labels) if own == cluster] for cluster in labels]
    cells = [
        [picture, *(overlay(picture, own[chosen].mean(axis=0)) for chosen in members)]
        for picture, own in zip(pictures, flat, strict=True)
    ]
    return picture_sheet(cells, ["image", *(_named(clusters, cluster) for cluster in labels)], cell=1.7)


def _named(clusters: HeadGroups, cluster: int) -> str:
    heads = clusters.members(cluster)
    shown = ", ".join(f"{layer}.{head}" for layer, head in heads[:4]) + (" ..." if len(heads) > 4 else "")
    return f"cluster {cluster}\n{shown}"


def components_figure(pictures: np.ndarray, components: Components) -> "Figure":
    """One column an image: the picture, the first component, three components of the foreground as colours."""
    size = pictures.shape[1:3]
    limit = max(float(components.first.abs().max()), 1e-12)
    first = color_map(components.first.numpy() / (2 * limit) + 0.5, "cividis")
    cells = [
        list(pictures),
        [grown(np.round(255 * image).astype(np.uint8), size) for image in first],
        [grown(np.round(255 * image).astype(np.uint8), size) for image in components.colors.numpy()],
    ]
    return picture_sheet(cells, rows=["image", "1st component", "3 as colours"])


__all__ = ["Components", "HeadGroups", "PatchMaps", "attention_figure", "components_figure", "head_clusters_figure"]
