"""Figures of the white box, for a page or a paper: readable, colour-blind safe, nothing global touched.

Every function gives a matplotlib Figure that is bound to no window. Colours are those of Okabe and Ito, maps are
viridis and cividis.

Shapes: B images, L layers, K heads, (rows, columns) the patch grid, H x W pixels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import binary_erosion
from torch import Tensor

from .attention import AttentionMaps, HeadClusters
from .features import PatchComponents
from .measures import LayerMeasures

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"
_SIZE = 10


def to_pictures(images: Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> np.ndarray:
    """Model-sized tensors (B, C, H, W) back to pictures (B, H, W, 3) uint8.

    With mean and standard deviation the normalisation is undone; without, each image is stretched to its full range.
    """
    pixels = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    if mean is not None and std is not None:
        pixels = pixels * np.asarray(std, dtype=np.float32) + np.asarray(mean, dtype=np.float32)
    else:
        low = pixels.min(axis=(1, 2, 3), keepdims=True)
        pixels = (pixels - low) / np.maximum(pixels.max(axis=(1, 2, 3), keepdims=True) - low, 1e-12)
    if pixels.shape[-1] != 3:
        pixels = pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return np.round(pixels.clip(0, 1) * 255).astype(np.uint8)


def overlay(picture: np.ndarray, heat: np.ndarray, alpha: float = 0.55) -> np.ndarray:
    """A map over a picture: (H, W, 3) uint8 and (rows, columns), stretched to its range, -> (H, W, 3) uint8."""
    height, width = picture.shape[:2]
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat - low) / (high - low) if high > low else np.zeros_like(heat, dtype=float)
    grown = Image.fromarray(scaled.astype(np.float32)).resize((width, height), Image.Resampling.NEAREST)
    color = colormaps["viridis"](np.asarray(grown))[..., :3] * 255
    grey = picture.mean(axis=-1, keepdims=True)
    return np.round((1 - alpha) * grey + alpha * color).astype(np.uint8)


def paint_masks(picture: np.ndarray, masks: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Masks (M, H, W) bool over a picture (H, W, 3) uint8, a colour each, with a line around it."""
    painted = picture.astype(float)
    for number, mask in enumerate(masks):
        color = np.asarray(tuple(bytes.fromhex(PALETTE[number % len(PALETTE)][1:])), dtype=float)
        painted[mask] = (1 - alpha) * painted[mask] + alpha * color
        inner = binary_erosion(mask)  # the picture's border counts as outside
        painted[mask & ~inner] = color
    return np.round(painted).astype(np.uint8)


def _axes(figure: Figure, rows: int, columns: int) -> np.ndarray:
    return np.asarray(figure.subplots(rows, columns, squeeze=False))


def _by_layer(axis, label: str) -> None:
    axis.set_xlabel("layer (from 0)", fontsize=_SIZE)
    axis.set_ylabel(label, fontsize=_SIZE)
    axis.tick_params(labelsize=_SIZE - 1)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _curve(axis, measures: LayerMeasures, column: str, label: str | None, number: int) -> None:
    mean, std = (np.asarray(getattr(measures, f"{column}_{kind}")) for kind in ("mean", "std"))
    layers, color = np.arange(len(mean)), PALETTE[number % len(PALETTE)]
    axis.plot(layers, mean, color=color, marker=_MARKERS[number % len(_MARKERS)], markersize=5, label=label)
    axis.fill_between(layers, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)


def _curves(models: Mapping[str, LayerMeasures], panels: Mapping[str, str]) -> Figure:
    """One panel a measure (column -> axis label), one curve a model; mean and one standard deviation."""
    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for axis, (column, label) in zip(_axes(figure, 1, len(panels))[0], panels.items(), strict=True):
        for number, (name, measures) in enumerate(models.items()):
            _curve(axis, measures, column, name if len(models) > 1 else None, number)
        _by_layer(axis, label)
        if len(models) > 1:
            axis.legend(frameon=False, fontsize=_SIZE - 1)
    return figure


def layers_figure(models: Mapping[str, LayerMeasures]) -> Figure:
    """The figure of the papers: R^c and the non-zero fraction by layer; mean and one standard deviation.

    Source: arXiv 2306.01129, Figures 3 and 4.
    """
    panels = {"coding_rate": "coding rate $R^c$ (nats)", "nonzero_fraction": "fraction of non-zero entries"}
    return _curves(models, panels)


def objective_figure(models: Mapping[str, LayerMeasures]) -> Figure:
    """R, Delta R and the sparse rate reduction by layer; mean and one standard deviation."""
    panels = {
        "rate": "coding rate $R$ (nats)",
        "rate_reduction": r"rate reduction $\Delta R = R - R^c$ (nats)",
        "sparse_rate_reduction": r"$\Delta R - \lambda \Vert Z \Vert_0$ (nats)",
    }
    return _curves(models, panels)


def subspaces_figure(measures: LayerMeasures) -> Figure:
    """How incoherent the subspaces are: the coherence by layer, and the block norms of U^T U of three layers."""
    chosen = sorted({0, len(measures) // 2, len(measures) - 1})
    figure = Figure(figsize=(3.4 + 3.1 * len(chosen), 3.3), layout="constrained")
    axes = _axes(figure, 1, 1 + len(chosen))[0]
    axes[0].plot(range(len(measures)), measures.subspace_coherence, color=PALETTE[0], marker="o", markersize=5)
    axes[0].set_ylim(0, 1)
    _by_layer(axes[0], "mean coherence of pairs of heads")
    norms = [np.asarray(measures.subspace_block_norms[layer]) for layer in chosen]
    for axis, layer, norm in zip(axes[1:], chosen, norms, strict=True):
        shown = axis.imshow(norm, cmap="cividis", vmin=0, vmax=max(n.max() for n in norms))
        axis.set_title(f"layer {layer}", fontsize=_SIZE)
        axis.set_xlabel("head", fontsize=_SIZE)
        axis.tick_params(labelsize=_SIZE - 2)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.yaxis.get_major_locator().set_params(integer=True)
    bar = figure.colorbar(shown, ax=list(axes[1:]), shrink=0.85)
    bar.set_label(r"$\Vert U_k^T U_l \Vert_F$", fontsize=_SIZE)
    return figure


_CELL = 128  # pixels of a picture in a sheet, at least
_GAP = 0.06  # between pictures, of a cell


def picture_sheet(
    cells: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    cell: float = 1.5,
) -> Figure:
    """Pictures (H, W, 3) uint8 of one size in rows and columns, with a heading each; pixels stay sharp."""
    height, width = cells[0][0].shape[:2]
    grow = max(1, -(-_CELL // max(height, width)))
    height, width = height * grow, width * grow
    gap = max(2, round(_GAP * max(height, width)))
    sheet = np.full((len(cells) * (height + gap) - gap, len(cells[0]) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, row in enumerate(cells):
        for j, picture in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            sheet[top : top + height, left : left + width] = picture.repeat(grow, axis=0).repeat(grow, axis=1)
    inches = cell * sheet.shape[1] / (width + gap), cell * sheet.shape[0] / (width + gap)
    figure = Figure(figsize=(inches[0] + (0.4 if rows else 0.1), inches[1] + 0.5), layout="constrained")
    axis = figure.subplots()
    axis.imshow(sheet, interpolation="nearest")
    axis.set_xticks([j * (width + gap) + width / 2 for j in range(len(columns))], columns, fontsize=_SIZE - 1)
    axis.set_yticks(
        [i * (height + gap) + height / 2 for i in range(len(rows))], rows, fontsize=_SIZE - 1, rotation=90, va="center"
    )
    axis.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def attention_figure(pictures: np.ndarray, attention: AttentionMaps, layer: int) -> Figure:
    """One row an image, one column a head: where the query of `attention` looks in a layer (number from 0)."""
    maps = attention.maps[:, attention.layers.index(layer)].numpy()  # (B, K, rows, columns)
    cells = [
        [_with_query(picture, attention), *(overlay(picture, heat) for heat in heads)]
        for picture, heads in zip(pictures, maps, strict=True)
    ]
    return picture_sheet(cells, ["image", *(f"head {head}" for head in range(maps.shape[1]))])


def _with_query(picture: np.ndarray, attention: AttentionMaps) -> np.ndarray:
    """The picture, with a frame around the patch that the maps belong to."""
    if isinstance(attention.query, str):
        return picture
    (row, column), (rows, columns) = attention.query, attention.grid
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    mask = np.zeros(picture.shape[:2], dtype=bool)
    mask[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
    return paint_masks(picture, np.stack([np.zeros_like(mask), mask]), alpha=0.3)


def head_clusters_figure(pictures: np.ndarray, attention: AttentionMaps, clusters: HeadClusters) -> Figure:
    """One row an image, one column a cluster of heads: the mean map of its heads."""
    labels = sorted(set(clusters.labels))
    flat = attention.maps.flatten(1, 2).numpy()  # (B, L K, rows, columns), in the order of clusters.heads
    members = [[i for i, own in enumerate(clusters.labels) if own == cluster] for cluster in labels]
    cells = [
        [picture, *(overlay(picture, own[chosen].mean(axis=0)) for chosen in members)]
        for picture, own in zip(pictures, flat, strict=True)
    ]
    return picture_sheet(cells, ["image", *(_named(clusters, cluster) for cluster in labels)], cell=1.7)


def _named(clusters: HeadClusters, cluster: int) -> str:
    heads = clusters.members(cluster)
    shown = ", ".join(f"{layer}.{head}" for layer, head in heads[:4]) + (" ..." if len(heads) > 4 else "")
    return f"cluster {cluster}\n{shown}"


def components_figure(pictures: np.ndarray, components: PatchComponents) -> Figure:
    """One column an image: the picture, the first component, three components of the foreground as colours."""
    size = pictures.shape[1:3]
    limit = max(float(components.first.abs().max()), 1e-12)
    first = colormaps["cividis"](components.first.numpy() / (2 * limit) + 0.5)[..., :3]
    cells = [
        list(pictures),
        [_grown(np.round(255 * image).astype(np.uint8), size) for image in first],
        [_grown(np.round(255 * image).astype(np.uint8), size) for image in components.colors.numpy()],
    ]
    return picture_sheet(cells, rows=["image", "1st component", "3 as colours"])


def _grown(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.NEAREST))


__all__ = [
    "PALETTE",
    "attention_figure",
    "components_figure",
    "head_clusters_figure",
    "layers_figure",
    "objective_figure",
    "overlay",
    "paint_masks",
    "picture_sheet",
    "subspaces_figure",
    "to_pictures",
]
