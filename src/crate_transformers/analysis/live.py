"""A model run again and again on one input while something in it is changed: only what follows the change is computed.

run = run_edited(model, inputs)                              trace, outputs
run_edited(model, inputs, Edit(heads_off=...), before=run)   layers before the first change are not run again
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import UserError
from .batches import ModelInputs, model_batches
from .edits import Edit, edited
from .tracing import RECORDS, Reading, Trace


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a model.

    Attributes:
        trace: what every layer saw and made. outputs: of the whole model, with its head. edit: what was changed.

    Example:
        >>> from crate_transformers import CrateVisionConfig, CrateVisionModel
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8)).eval()
        >>> run_edited(model, torch.rand(1, 3, 32, 32)).outputs.pooler_output.shape
        torch.Size([1, 384])
    """

    trace: Trace
    outputs: Any
    edit: Edit


def run_edited(
    model: nn.Module,
    inputs: ModelInputs,
    edit: Edit | None = None,
    before: Run | None = None,
    records: tuple[str, ...] = RECORDS,
) -> Run:
    """Run a model on one batch with something changed in it.

    Args:
        model, inputs, records: as in `trace`. edit: None changes nothing.
        before: an earlier run on the same inputs with the same records. Layers before the first one in which the two
            edits differ are taken from it.

    Returns:
        trace and outputs; of an autoencoder the outputs are those of its encoder, on the whole image.

    Raises:
        ValueError: as in `trace` and `edited`.

    Example:
        >>> from crate_transformers import CrateForImageClassification, CrateVisionConfig
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8, num_labels=3)
        >>> model, image = CrateForImageClassification(config).eval(), torch.rand(1, 3, 32, 32)
        >>> run = run_edited(model, image)
        >>> other = run_edited(model, image, Edit(heads_off=frozenset({(7, 2)})), before=run)
        >>> other.outputs.logits.shape, other.trace.layers[6] is run.trace.layers[6]
        (torch.Size([1, 3]), True)
    """
    edit = edit or Edit()
    reading = Reading.of(model, records, "encoder")
    batches = list(model_batches(reading.backbone, inputs, 2**31))
    if len(batches) != 1:
        raise UserError(f"one batch is run, got {len(batches)}")
    start = 0 if before is None else _first_difference(edit, before.edit, len(before.trace.layers))
    with edited(model, edit), torch.no_grad():
        trace, outputs = reading.run_whole(batches[0], None if before is None else before.trace, start)
        if reading.whole is not reading.backbone and not hasattr(reading.whole, "decoder"):
            with _giving(reading.backbone, outputs):
                outputs = reading.whole(**trace.inputs)
    return Run(trace, outputs, edit)


def _first_difference(edit: Edit, other: Edit, num_layers: int) -> int:
    """The first layer in which two edits differ; num_layers - 1 at most, so that the outputs are made anew."""
    for layer in range(num_layers - 1):
        if _of_layer(edit, layer) != _of_layer(other, layer):
            return layer
    return num_layers - 1


def _of_layer(edit: Edit, layer: int) -> tuple[object, ...]:
    neurons = {pair: value for pair, value in edit.neurons.items() if pair[0] == layer}
    heads = {pair for pair in edit.heads_off if pair[0] == layer}
    tokens = edit.tokens if neurons else None
    return edit.sparsity_weights.get(layer), edit.step_sizes.get(layer), heads, neurons, tokens


@contextmanager
def _giving(backbone: PreTrainedModel, outputs: Any) -> Iterator[None]:
    """Within the scope, a backbone gives these outputs instead of computing."""

    def give(*arguments: Tensor, **options: object) -> Any:
        return outputs

    vars(backbone)["forward"] = give
    training, _ = backbone.training, backbone.eval()
    try:
        yield
    finally:
        del vars(backbone)["forward"]
        backbone.train(training)


__all__ = ["Run", "run_edited"]
