"""What a model sees in a few pictures: attention, codes, heads by what they answer to, components.

Shapes: B pictures, C channels, H x W pixels, (rows, columns) the patch grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..configuration.validation import as_pair
from ..report.page import data_uri
from ..report.pictures import png_bytes, to_pictures
from ..report.viewer import Looked, View
from .architectures import unwrap
from .attention import AttentionMaps, HeadClusters, attention_maps, cluster_heads, segmentation_layer
from .features import PatchComponents, joint_pca, patch_features
from .inside import look_inside
from .tracing import eager_attention

Normalisation = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, eq=False)
class PictureLook:
    """A few pictures and what a model sees in them.

    Attributes:
        pictures: (B, H, W, 3) uint8, as they are shown.
        layer: from 0, of the figures of one layer and of the components.
        attention: the class token's maps, of all layers; of tssa the memberships of patches in heads.
        pointed: the maps of a patch that was pointed at, of `layer`; or None.
        clusters: the heads of all layers, by what they look at.
        components: of the subspace features of `layer`.
        view: attention from every patch, and codes, of every layer, in few bits, for the page.
    """

    pictures: np.ndarray
    layer: int
    attention: AttentionMaps
    pointed: AttentionMaps | None
    clusters: HeadClusters
    components: PatchComponents
    view: View | None = None

    def to_dict(self) -> dict[str, Any]:
        """All but `view`, ready for JSON; each picture as an address that holds it as png."""
        components = {name: values.tolist() for name, values in vars(self.components).items() if name != "explained"}
        return {
            "layer": self.layer,
            "grid": list(self.attention.grid),
            "pictures": [data_uri(png_bytes(picture), "image/png") for picture in self.pictures],
            "attention": _maps_dict(self.attention),
            "pointed": None if self.pointed is None else _maps_dict(self.pointed),
            "clusters": {"heads": self.clusters.heads, "labels": self.clusters.labels},
            "components": {**components, "explained": self.components.explained},
        }


def _maps_dict(attention: AttentionMaps) -> dict[str, Any]:
    return {"query": attention.query, "layers": attention.layers, "maps": attention.maps.tolist()}


def look_at_pictures(
    model: nn.Module,
    images: Tensor,
    layer: int | None = None,
    patch: tuple[int, int] | None = None,
    normalisation: Normalisation | None = None,
    names: Sequence[str] = (),
    num_clusters: int = 4,
) -> PictureLook:
    """Attention of every head, heads by cluster, and components of the subspace features, for a few images.

    Args:
        model: an image model that `trace_batches` takes. images: (B, C, H, W) as the model wants them.
        layer: None is the second-to-last. patch: (row, column) of a patch whose maps are wanted too.
        normalisation: (mean, standard deviation) of the images, to show them in their own colours.
        names: what to call each image; none are numbers. num_clusters: of heads, at most.

    Raises:
        ValueError: a layer or patch that does not exist.
    """
    layer = segmentation_layer(model, layer)
    pictures = to_pictures(images, *(normalisation or (None, None)))
    called = _read_as(model, images, names or [f"picture {number}" for number in range(len(images))])
    samples = [Looked(name, picture=picture) for name, picture in zip(called, pictures, strict=True)]
    with eager_attention(unwrap(model)):
        attention = attention_maps(model, images)  # of tssa memberships
        return PictureLook(
            pictures=pictures,
            layer=layer,
            attention=attention,
            pointed=None if patch is None else attention_maps(model, images, [layer], patch),
            clusters=cluster_heads(attention, min(num_clusters, attention.maps.shape[1] * attention.maps.shape[2])),
            components=joint_pca(patch_features(model, images, layer)),
            view=look_inside(model, images, samples, layer),
        )


@torch.no_grad()
def _read_as(model: nn.Module, images: Tensor, names: Sequence[str]) -> list[str]:
    """The names, each with what a classifier takes the image for."""
    inner = unwrap(model)
    size = tuple(images.shape[-2:])
    if not type(inner).__name__.endswith("ForImageClassification") or size != as_pair(inner.config.image_size):
        return list(names)
    scores = inner(pixel_values=images.to(inner.device, inner.dtype)).logits.float().softmax(dim=-1).max(dim=-1)
    classes = inner.config.id2label or {}
    return [
        f"{name}; read as {classes.get(label, label)} ({score:.0%})"
        for name, label, score in zip(names, scores.indices.tolist(), scores.values.tolist(), strict=True)
    ]


__all__ = ["Normalisation", "PictureLook", "look_at_pictures"]
