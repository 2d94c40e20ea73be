"""A model made ready to serve: what is constant at inference is folded once.

    LN(z) W + c = z^ (diag(g) W) + (b W + c)                  z^: the normalised token; g, b: the affine part of LN
    relu(LN(z) (I + M) - eta lambda) = relu(z^ (diag(g) (I + M)) + b (I + M) - eta lambda),   M = eta (D - D^T D)

So a layer is two normalisations, three products with a bias, attention, one sum and one relu. The result equals the
model to rounding; it is a copy, made on purpose: later changes of the model's weights do not reach it.

Weights are stored as by nn.Linear, (out, in). Tokens are rows.
"""

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import UserError
from ..layers import ConvStage, CrateDecoderLayer, CrateLayer, NormalizedLinear, NormalizedPatchEmbeddings
from ..layers.adapters import refuse_adapters
from ..models import CrateForImageClassification
from ..models.modeling_base import CratePreTrainedModel

Model = TypeVar("Model", bound=CratePreTrainedModel)


def _parts(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [part for part in model.modules() if isinstance(part, kind)]


def _fold_layers(model: nn.Module) -> None:
    """Fold every CRATE layer of a model where it stands; each block says what it becomes."""
    layers = _parts(model, CrateLayer)
    for layer in layers:
        if layer is not layers[-1]:  # there a head that reads one token projects that token alone, with U as it is
            layer.compression = layer.compression.folded()
        layer.sparsification = layer.sparsification.folded()
    for layer in _parts(model, CrateDecoderLayer):
        layer.linear, layer.expansion = layer.linear.folded(), layer.expansion.folded()


def _fold_images(model: CratePreTrainedModel) -> None:
    """The LayerNorms before the patch projection and before the classifier, the BatchNorms of a stem."""
    for patches in _parts(model, NormalizedPatchEmbeddings):
        projection = patches.projection
        patches.projection = NormalizedLinear(patches.patch_norm, projection.weight, projection.bias)
        patches.patch_norm = nn.Identity()
    for stage in _parts(model, ConvStage):
        stage.convolution, stage.norm = fuse_conv_bn_eval(stage.convolution, stage.norm), nn.Identity()
    for head in _parts(model, CrateForImageClassification):
        head.classifier = NormalizedLinear(head.norm, head.classifier.weight, head.classifier.bias)
        head.norm = nn.Identity()


def _refuse_to_save(*args: object, **kwargs: object) -> None:
    raise UserError("a fused model is made to be served, not saved: save the model that it was made from")


def fuse(model: Model) -> Model:
    """A copy of a model for serving, with everything that is constant at inference folded.

    Args:
        model: any model of the library; it is not changed, and later changes of it do not reach the copy.

    Returns:
        a model of the same class (`generate` and the pipelines take it), equal to rounding, in evaluation mode and
        without gradients. Its codes cannot be recorded, and it is not saved: look inside the model, serve the copy.

    Raises:
        ValueError: a model of another kind, one with adapters, or with weights of half precision (fuse first, convert
            the copy then).

    Example:
        >>> from crate_transformers import CrateVisionConfig
        >>> model = CrateForImageClassification(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> fuse(model)(torch.zeros(2, 3, 32, 32)).logits.shape
        torch.Size([2, 2])
    """
    if not isinstance(model, CratePreTrainedModel):
        raise UserError(f"fuse takes a CRATE model, got {type(model).__name__}")
    if model.is_fused:
        return deepcopy(model)
    if model.dtype not in (torch.float32, torch.float64):
        raise UserError(f"fuse folds weights in float32 or wider, got {model.dtype}: call model.float() before")
    refuse_adapters(model, "fuse cannot fold")
    copy = deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        _fold_images(copy)
        _fold_layers(copy)
    for part in _parts(copy, CratePreTrainedModel):
        part.is_fused = True
    vars(copy)["save_pretrained"] = _refuse_to_save
    return copy


__all__ = ["fuse"]
