"""Where a token looks: attention of the class token, or of a patch pointed at, over the patches of an image.

Shapes: B batch, L layers, K heads, (rows, columns) the patch grid, the class token before them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UserError
from .architectures import all_make, architecture_of, backbone_of
from .tracing import trace_batches


@dataclass(frozen=True)
class AttentionMaps:
    """Attention over the patches.

    Attributes:
        maps: (B, L, K, rows, columns) float32 on the CPU; the weights that the query gives the patches. With the one it
            gives the class token they sum to 1 (not in cbsa, whose map is A^T A). Of "membership": how far each patch
            belongs to each head, which sums to 1 over the heads.
        layers: which layers, from 0. query: "cls", or (row, column) of the patch; "membership" where layers of tssa
            make no attention.

    Example:
        >>> AttentionMaps(torch.zeros(2, 12, 6, 3, 5), layers=tuple(range(12)), query="cls").grid
        (3, 5)
    """

    maps: Tensor
    layers: tuple[int, ...]
    query: str | tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.maps.shape[-2], self.maps.shape[-1]


def resolve_layer(layer: int, num_layers: int) -> int:
    """A layer's number from 0, where negative ones count from the end.

    Raises:
        ValueError: a layer that does not exist.
    """
    if not -num_layers <= layer < num_layers:
        raise UserError(
            f"there is no layer {layer}: the model has {num_layers}, numbered 0 to {num_layers - 1} "
            f"(or -1 for the last to -{num_layers})"
        )
    return layer % num_layers


def num_layers_of(model: nn.Module) -> int:
    """Number of layers of a model's backbone."""
    backbone = backbone_of(model)
    return len(architecture_of(backbone).layers(backbone))


def gives_all_maps(model: nn.Module) -> bool:
    """Whether every layer of a model gives its attention, or every one memberships, and projects its tokens."""
    maps = all_make(model, "attentions") or all_make(model, "memberships")
    return maps and all_make(model, "subspace_projections")


def segmentation_layer(model: nn.Module, layer: int | None) -> int:
    """The layer to read: the one given, else the second-to-last, which the papers take.

    Source: arXiv 2308.16271, section 4.
    """
    num_layers = num_layers_of(model)
    return resolve_layer(layer, num_layers) if layer is not None else max(num_layers - 2, 0)


def _query_index(query: str | tuple[int, int], grid: tuple[int, int]) -> int:
    if query == "cls":
        return 0
    if isinstance(query, str):
        raise UserError(f"query must be 'cls' or (row, column) of a patch, got {query!r}")
    row, column = query
    rows, columns = grid
    if not (0 <= row < rows and 0 <= column < columns):
        raise UserError(f"there is no patch {tuple(query)}: the image has {rows} rows and {columns} columns of them")
    return 1 + row * columns + column


def attention_maps(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[int] | None = None,
    query: str | tuple[int, int] = "cls",
    batch_size: int = 8,
) -> AttentionMaps:
    """Attention from a query token to the patches, per layer and head.

    Args:
        model: an image model that `trace_batches` takes.
        images: (B, C, H, W) as the model wants them, of any size from one patch up (borders that do not fill a patch
            are cut off).
        layers: which layers (None: all); negative ones count from the end.
        query: "cls", or (row, column) of a patch.

    Raises:
        ValueError: an image smaller than a patch; a layer or patch that does not exist; a patch of a model of tssa,
            whose maps are memberships.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> attention_maps(model, torch.rand(2, 3, 32, 32), layers=[-1]).maps.shape  # images, layers, heads, patches
        torch.Size([2, 1, 6, 4, 4])

    Source: the maps of arXiv 2308.16271, Figure 1.
    """
    num_layers = num_layers_of(model)
    chosen = tuple(resolve_layer(i, num_layers) for i in (range(num_layers) if layers is None else layers))
    if all_make(model, "memberships"):
        return _membership_maps(model, images, chosen, query, batch_size)
    batches = []
    for record in trace_batches(model, images, ("attention",), batch_size=batch_size):
        if record.grid is None:
            raise UserError("attention maps need images: this model reads text, use token_attention")
        index = _query_index(query, record.grid)
        rows = [record.layers[i].get("attention")[:, :, index, 1:].float().cpu() for i in chosen]
        batches.append(torch.stack(rows, dim=1).unflatten(-1, record.grid))  # (B, L, K, rows, columns)
    return AttentionMaps(torch.cat(batches), chosen, query)


def _membership_maps(
    model: nn.Module, images: Tensor, layers: tuple[int, ...], query: str | tuple[int, int], batch_size: int
) -> AttentionMaps:
    """Memberships of patches in heads, in the place of attention, which layers of tssa do not make."""
    if query not in ("cls", "membership"):
        raise UserError("tssa compares no tokens pairwise: no patch looks at others; leave the patch out")
    batches = []
    for record in trace_batches(model, images, ("memberships",), batch_size=batch_size):
        if record.grid is None:
            raise UserError("membership maps need images: this model reads text")
        rows = [record.layers[i].get("memberships")[:, record.prefix :].mT.float().cpu() for i in layers]
        batches.append(torch.stack(rows, dim=1).unflatten(-1, record.grid))  # (B, L, K, rows, columns)
    return AttentionMaps(torch.cat(batches), layers, "membership")


@dataclass(frozen=True)
class HeadClusters:
    """Heads that look at the same things.

    Attributes:
        heads: (layer, head) of each. labels: cluster of each, from 0, the largest cluster first.
        similarity: correlation of the heads' maps over all images (heads, heads), in [-1, 1].

    Example:
        >>> clusters = HeadClusters(heads=((0, 0), (0, 1), (1, 0)), labels=(0, 1, 0), similarity=torch.eye(3))
        >>> clusters.members(0)
        [(0, 0), (1, 0)]
    """

    heads: tuple[tuple[int, int], ...]
    labels: tuple[int, ...]
    similarity: Tensor

    def members(self, label: int) -> list[tuple[int, int]]:
        return [head for head, own in zip(self.heads, self.labels, strict=True) if own == label]


def cluster_heads(attention: AttentionMaps, num_clusters: int = 4) -> HeadClusters:
    """Group heads by what they answer to: those whose maps agree over a whole set of images.

    Every head's maps (each image's own mean taken out, so that agreement means the same places in the same image) are
    one vector; heads are merged by average linkage on 1 - correlation.

    Args:
        attention: maps of many images. num_clusters: at most the number of heads.

    Raises:
        ValueError: more clusters than heads, or less than one.

    Example:
        >>> one, other = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
        >>> maps = torch.stack([one, one, other])[None, None]  # of one image, one layer, three heads
        >>> cluster_heads(AttentionMaps(maps, layers=(0,), query="cls"), num_clusters=2).labels
        (0, 0, 1)
    """
    from sklearn.cluster import AgglomerativeClustering  # heavy

    maps = attention.maps.double()  # (B, L, K, rows, columns)
    layers, heads = maps.shape[1:3]
    if not 1 <= num_clusters <= layers * heads:
        raise UserError(f"num_clusters must be in [1, {layers * heads}], the number of heads, got {num_clusters}")
    flat = maps.flatten(3)  # (B, L, K, patches)
    flat = flat - flat.mean(dim=-1, keepdim=True)
    vectors = flat.permute(1, 2, 0, 3).reshape(layers * heads, -1)
    norm = vectors.norm(dim=-1, keepdim=True)
    vectors = vectors / norm.clamp(min=torch.finfo(torch.float64).tiny)
    similarity = (vectors @ vectors.T).clamp(-1, 1)
    similarity.fill_diagonal_(1)
    if num_clusters == layers * heads or layers * heads == 1:
        found = list(range(layers * heads))
    else:
        clustering = AgglomerativeClustering(num_clusters, metric="precomputed", linkage="average")
        found = clustering.fit_predict((1 - similarity).numpy()).tolist()
    order = sorted(set(found), key=lambda label: (-found.count(label), found.index(label)))
    names = tuple((layer, head) for layer in attention.layers for head in range(heads))
    return HeadClusters(names, tuple(order.index(label) for label in found), similarity.float())


__all__ = [
    "AttentionMaps",
    "HeadClusters",
    "attention_maps",
    "cluster_heads",
    "gives_all_maps",
    "num_layers_of",
    "resolve_layer",
    "segmentation_layer",
]
