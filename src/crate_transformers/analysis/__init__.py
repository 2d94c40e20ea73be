"""The white box: what every layer of a model does, as traces, measures, maps, masks and figures.

Names are loaded when they are first used, so that drawing libraries stay off the import path.
"""

import importlib
from typing import Any

_PUBLIC: dict[str, str] = {
    **dict.fromkeys(("LayerMeasures", "measure_layers"), "measures"),
    **dict.fromkeys(("LayerTrace", "Trace", "trace", "trace_batches"), "tracing"),
    **dict.fromkeys(("AttentionMaps", "HeadClusters", "attention_maps", "cluster_heads"), "attention"),
    **dict.fromkeys(("PatchComponents", "PatchFeatures", "joint_pca", "patch_features"), "features"),
    **dict.fromkeys(("ObjectMasks", "mask_cut"), "maskcut"),
    **dict.fromkeys(("attention_masks", "resize_masks"), "segmentation"),
    **dict.fromkeys(("BestHeadIoU", "BestMaskIoU", "average_precision", "iou", "objects_of"), "scores"),
    **dict.fromkeys(("Neurons", "find_neurons", "steer_and_generate", "steered"), "neurons"),
    **dict.fromkeys(("TokenAttention", "inspect_text", "token_attention"), "text"),
    **dict.fromkeys(("Inspection", "inspect_model"), "inspection"),
    **dict.fromkeys(("Sample", "SegmentationSettings", "segment", "segment_sample"), "segmenting"),
    **dict.fromkeys(("block_norms", "coherence"), "subspaces"),
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
