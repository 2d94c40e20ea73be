"""The white box: what every layer of a model does, as traces, measures, maps, masks and studies.

Names are loaded when they are first used, so that drawing libraries stay off the import path.
"""

import importlib
from typing import Any

_PUBLIC: dict[str, str] = {
    **dict.fromkeys(("LayerMeasures", "measure_layers"), "measures"),
    **dict.fromkeys(("Ladder", "compression_shares", "descent_angles", "measure_half_steps"), "half_steps"),
    **dict.fromkeys(("LayerTrace", "Trace", "trace", "trace_batches"), "tracing"),
    **dict.fromkeys(("AttentionMaps", "HeadClusters", "attention_maps", "cluster_heads"), "attention"),
    **dict.fromkeys(("PatchComponents", "PatchFeatures", "joint_pca", "patch_features"), "features"),
    **dict.fromkeys(("ObjectMasks", "mask_cut"), "maskcut"),
    **dict.fromkeys(("attention_masks", "resize_masks"), "segmentation"),
    **dict.fromkeys(("BestHeadIoU", "BestMaskIoU", "average_precision", "iou", "objects_of"), "scores"),
    **dict.fromkeys(("Neurons", "find_neurons"), "neurons"),
    **dict.fromkeys(("Edit", "edited"), "edits"),
    **dict.fromkeys(("StepFilm", "TokenCode", "code_of_token", "film_of_token"), "token_codes"),
    **dict.fromkeys(("Run", "run_edited"), "live"),
    **dict.fromkeys(("steer_and_generate", "steered"), "steering"),
    **dict.fromkeys(("TokenAttention", "token_attention"), "text"),
    **dict.fromkeys(("Study", "StudyOptions", "study_model"), "study"),
    **dict.fromkeys(("Inspection", "inspect_model", "inspect_text"), "inspection"),
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
