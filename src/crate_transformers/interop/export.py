"""A model as a file that runs without this library: a torch.export program, or ONNX.

What is written is the fused model (see fusion.py), tensors in and tensors out:

    image models      pixel_values (B, C, H, W)         B, H and W free; H and W multiples of the patch, two at least;
                                                        with cbsa, which pools a square, H and W the configuration's
    text models       input_ids, attention_mask (B, T)  B and T free, T from 2 to the context
    multiple choice   the same, (B, choices, T)

    -> logits; start_logits and end_logits of question answering; last_hidden_state of a backbone and of a masked
       autoencoder (its encoder, which then sees the whole image)
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..configuration import CrateConfig
from ..configuration.validation import as_pair
from ..errors import MissingPackageError, UserError
from ..layers import CompressionOperator
from ..models import CrateForMultipleChoice, CrateForQuestionAnswering, CrateMAEForPreTraining
from ..models.modeling_base import CratePreTrainedModel
from ..upstream import ModelOutput
from .fusion import fuse

ExportFormat = Literal["torch", "onnx"]
_MOST_PATCHES = 512  # a side; an exported program must have an upper bound


class _Program(nn.Module):
    """A fused model with a fixed list of tensors in and out.

    Attributes:
        input_names, output_names. example: inputs unlike any special case. free_axes: of each input, as Dims by axis.
    """

    input_names: tuple[str, ...]
    example: tuple[Tensor, ...]
    free_axes: dict[str, dict[int, Any]]

    def __init__(self, model: CratePreTrainedModel):
        super().__init__()
        fused = fuse(model).cpu()
        self.model: Any = fused.crate if isinstance(fused, CrateMAEForPreTraining) else fused
        name = type(self.model).__name__
        self.output_names: tuple[str, ...] = ("logits",) if "For" in name else ("last_hidden_state",)
        if isinstance(fused, CrateForQuestionAnswering):
            self.output_names = ("start_logits", "end_logits")

    def _of(self, outputs: ModelOutput) -> Tensor | tuple[Tensor, ...]:
        tensors = tuple(outputs[name] for name in self.output_names)
        return tensors if len(tensors) > 1 else tensors[0]


class _ImageProgram(_Program):
    input_names = ("pixel_values",)

    def __init__(self, model: CratePreTrainedModel):
        super().__init__(model)
        config = model.config
        (rows, columns), (height, width) = config.patch_grid, as_pair(config.patch_size)
        operators = [module for module in model.modules() if isinstance(module, CompressionOperator)]
        # an offset makes a constant of the ratio of two grids
        spreads = getattr(config, "interpolate_offset", 0)
        if spreads or not all(operator.takes_any_grid for operator in operators):
            self.example = (torch.zeros(2, config.num_channels, *as_pair(config.image_size)),)
            self.free_axes = {"pixel_values": {0: Dim("batch")}}
            return
        # two images, and another grid than the model's
        self.example = (torch.zeros(2, config.num_channels, (rows + 2) * height, (columns + 3) * width),)
        free = Dim("rows", min=2, max=_MOST_PATCHES), Dim("columns", min=2, max=_MOST_PATCHES)
        self.free_axes = {"pixel_values": {0: Dim("batch"), 2: height * free[0], 3: width * free[1]}}

    def forward(self, pixel_values: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs of images (B, C, H, W)."""
        return self._of(self.model(pixel_values=pixel_values, interpolate_pos_encoding=True))


class _TextProgram(_Program):
    input_names = ("input_ids", "attention_mask")

    def __init__(self, model: CratePreTrainedModel):
        super().__init__(model)
        longest = model.config.max_sequence_length
        has_choices = isinstance(model, CrateForMultipleChoice)
        shape = (2, 3, min(7, longest)) if has_choices else (2, min(7, longest))
        self.example = (torch.zeros(shape, dtype=torch.long), torch.ones(shape, dtype=torch.long))
        length = Dim("length", min=2, max=longest)
        free = {0: Dim("batch"), 1: Dim("choices"), 2: length} if has_choices else {0: Dim("batch"), 1: length}
        self.free_axes = dict.fromkeys(self.input_names, free)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs of tokens (B, T), or (B, choices, T)."""
        without_cache = {"use_cache": False} if self.model.config.is_decoder else {}
        return self._of(self.model(input_ids=input_ids, attention_mask=attention_mask, **without_cache))


def _program_of(model: CratePreTrainedModel) -> _Program:
    if not isinstance(model, CratePreTrainedModel):
        raise UserError(f"a CRATE model can be exported, not {type(model).__name__}")
    return _TextProgram(model) if isinstance(model.config, CrateConfig) else _ImageProgram(model)


def export_program(model: CratePreTrainedModel) -> ExportedProgram:
    """The fused model as a torch.export program with free axes (see the top of this file).

    Raises:
        ValueError: a model of another kind (see `fuse`).
    """
    return _export(_program_of(model))


def _export(program: _Program) -> ExportedProgram:
    return torch.export.export(program, program.example, dynamic_shapes=program.free_axes)


def export_model(model: CratePreTrainedModel, path: str | Path, format: ExportFormat = "onnx") -> str:
    """Write the fused model to a file; read it with `torch.export.load`, or any ONNX runtime.

    Args:
        model: any model of the library, in float32.
        path: the file; its folder is made where there is none. It appears when it is whole.
        format: "torch" (.pt2) or "onnx".

    Returns:
        the names of inputs and outputs: "pixel_values -> logits".

    Raises:
        ValueError: an unknown format, a model of another kind, a folder in place of the file.
        ImportError: "onnx" without the extra `export`.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file to write")
    half = path.with_name(f".{path.name}.part.{'pt2' if format == 'torch' else 'onnx'}")
    if format not in ("torch", "onnx"):
        raise UserError(f"format must be torch or onnx, got {format!r}")
    if format == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise MissingPackageError("export to ONNX needs an extra: pip install 'crate-transformers[export]'")
    program = _program_of(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if format == "torch":
            torch.export.save(_export(program), half)
        else:
            _write_onnx(program, half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return f"{', '.join(program.input_names)} -> {', '.join(program.output_names)}"


def _write_onnx(program: _Program, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its next versions, and of names that it drops
        written = torch.onnx.export(
            program,
            program.example,
            dynamic_shapes=program.free_axes,
            input_names=program.input_names,
            output_names=program.output_names,
            dynamo=True,
            optimize=False,  # its rules take an addition of 1e-8, the smallest mass of tssa, for one of 0
            verbose=False,
        )
    assert written is not None
    written.save(path)


__all__ = ["export_model", "export_program"]
