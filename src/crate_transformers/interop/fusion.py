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
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..layers import CrateDecoderLayer, CrateLayer, Linear, NormalizedPatchEmbeddings, Sparsification
from ..models import CrateForImageClassification
from ..models.modeling_base import CratePreTrainedModel

Model = TypeVar("Model", bound=CratePreTrainedModel)


class NormalizedLinear(nn.Module):
    """A projection of normalised inputs: Linear(LN(x)) with LN's affine part folded into weight and bias.

    `linear` is an nn.Linear, so that tools that replace those (quantisation) find it.
    """

    ones: Tensor
    zeros: Tensor

    def __init__(self, norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.eps = norm.eps
        scale, shift = norm.weight.double(), norm.bias.double()  # folding rounds once
        wide = weight.double()  # (out, in)
        offset = wide @ shift if bias is None else wide @ shift + bias.double()
        self.linear = Linear(wide.shape[1], wide.shape[0], dtype=weight.dtype, device=weight.device)
        self.linear.requires_grad_(False)
        self.linear.weight.copy_(wide * scale)
        self.linear.bias.copy_(offset)
        # an affine part that does nothing: torch's kernel without one is not vectorised on the CPU
        self.register_buffer("ones", torch.ones_like(norm.weight))
        self.register_buffer("zeros", torch.zeros_like(norm.weight))

    @property
    def weight(self) -> Tensor:
        return self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.linear(F.layer_norm(x, self.ones.shape, self.ones, self.zeros, self.eps))


def _parts(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [part for part in model.modules() if isinstance(part, kind)]


def _fold_attention(block: Any) -> None:
    """LN and the subspaces of a Compression or an Expansion as one projection."""
    block.attention.subspaces = NormalizedLinear(block.norm, block.attention.subspaces.weight)
    block.norm = nn.Identity()


def _fold_sparsification(block: Sparsification) -> nn.Module:
    """LN and the one step from the tokens as one projection; other members of the family stay what they are."""
    coding = block.coding
    if not coding.starts_at_tokens or coding.num_steps != 1 or block.residual:
        return block
    dictionary = coding.dictionary.double()
    step = coding.step_size * (dictionary - dictionary.mT @ dictionary)  # M (d, d)
    step.diagonal().add_(1.0)
    threshold = torch.full_like(block.norm.bias, -coding.threshold)
    weight = step.mT.to(coding.dictionary.dtype)
    return nn.Sequential(NormalizedLinear(block.norm, weight, threshold), nn.ReLU(inplace=True))


def _fold_layers(model: nn.Module) -> None:
    """Fold every CRATE layer of a model where it stands."""
    layers = _parts(model, CrateLayer)
    for layer in layers:
        if layer is not layers[-1]:  # there a head that reads one token projects that token alone, with U as it is
            _fold_attention(layer.compression)
        layer.sparsification = _fold_sparsification(layer.sparsification)
    for layer in _parts(model, CrateDecoderLayer):
        layer.linear = NormalizedLinear(layer.linear.norm, layer.linear.weight)
        _fold_attention(layer.expansion)


def _fold_images(model: CratePreTrainedModel) -> None:
    """The LayerNorms before the patch projection and before the classifier."""
    for patches in _parts(model, NormalizedPatchEmbeddings):
        projection = patches.projection
        patches.projection = NormalizedLinear(patches.patch_norm, projection.weight, projection.bias)
        patches.patch_norm = nn.Identity()
    for head in _parts(model, CrateForImageClassification):
        head.classifier = NormalizedLinear(head.norm, head.classifier.weight, head.classifier.bias)
        head.norm = nn.Identity()


def _refuse_to_save(*args: Any, **kwargs: Any) -> None:
    raise UserError("a fused model is made to be served, not saved: save the model that it was made from")


def fuse(model: Model) -> Model:
    """A copy of a model for serving, with everything that is constant at inference folded.

    Args:
        model: any model of the library; it is not changed, and later changes of it do not reach the copy.

    Returns:
        a model of the same class (`generate` and the pipelines take it), equal to rounding, in evaluation mode and
        without gradients. Its codes cannot be recorded, and it is not saved: look inside the model, serve the copy.

    Raises:
        ValueError: a model of another kind, or with weights of half precision (fuse first, convert the copy then).

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
    copy = deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        _fold_images(copy)
        _fold_layers(copy)
    for part in _parts(copy, CratePreTrainedModel):
        part.is_fused = True
    copy.save_pretrained = _refuse_to_save  # type: ignore[method-assign]
    return copy


__all__ = ["NormalizedLinear", "fuse"]
