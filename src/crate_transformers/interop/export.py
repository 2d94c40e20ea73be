"""An image classifier as a file that runs without this library: a torch.export program, or ONNX.

What is written is the fused classifier (see fusion.py): pixel_values (B, C, H, W) -> logits (B, num_labels), with B, H
and W free; H and W are multiples of the patch, two patches at least.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ..models import CrateForImageClassification
from .fusion import FusedClassifier, fuse

ExportFormat = Literal["torch", "onnx"]
_MOST_PATCHES = 512  # a side; exported programs want an upper end


def _example(model: FusedClassifier) -> Tensor:
    """Images unlike any special case: two of them, and another grid than the model's."""
    (rows, columns), (height, width) = model.config.patch_grid, model.patch_size
    return torch.zeros(2, model.config.num_channels, (rows + 2) * height, (columns + 3) * width)


def _free_axes(model: FusedClassifier) -> dict[str, dict[int, Any]]:
    height, width = model.patch_size
    rows, columns = Dim("rows", min=2, max=_MOST_PATCHES), Dim("columns", min=2, max=_MOST_PATCHES)
    return {"pixel_values": {0: Dim("batch"), 2: height * rows, 3: width * columns}}


def export_program(model: CrateForImageClassification) -> ExportedProgram:
    """The fused classifier as a torch.export program with free batch and image size.

    Raises:
        ValueError: a model of another kind (see `fuse`).
    """
    fused = fuse(model).cpu()
    return torch.export.export(fused, (_example(fused),), dynamic_shapes=_free_axes(fused))


def export_model(model: CrateForImageClassification, path: str | Path, format: ExportFormat = "onnx") -> Path:
    """Write the fused classifier to a file; read it with `torch.export.load`, or any ONNX runtime.

    Args:
        model: the classifier, in float32.
        path: the file; its folder is made where there is none. It appears when it is whole.
        format: "torch" (.pt2) or "onnx".

    Returns:
        the path.

    Raises:
        ValueError: an unknown format, or a model of another kind.
        ImportError: "onnx" without the extra `export`.
    """
    path = Path(path)
    half = path.with_name(f".{path.name}.part.{'pt2' if format == 'torch' else 'onnx'}")
    if format not in ("torch", "onnx"):
        raise ValueError(f"format must be torch or onnx, got {format!r}")
    if format == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise ImportError("export to ONNX needs an extra: pip install 'crate-transformers[export]'")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if format == "torch":
            torch.export.save(export_program(model), half)
        else:
            _write_onnx(fuse(model).cpu(), half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path


def _write_onnx(fused: FusedClassifier, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: of its coming versions, of names it does not keep
        program = torch.onnx.export(
            fused,
            (_example(fused),),
            dynamic_shapes=_free_axes(fused),
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path)


__all__ = ["export_model", "export_program"]
