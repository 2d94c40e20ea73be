"""A classifier made ready to serve: what is constant at inference is folded once.

    LN(z) W + c = z^ (diag(g) W) + (b W + c)                  z^: the normalised token; g, b: the affine part of LN
    relu(LN(z) (I + M) - eta lambda) = relu(z^ (diag(g) (I + M)) + b (I + M) - eta lambda),   M = eta (D - D^T D)

So a layer is two normalisations, three products with a bias, attention, one sum and one relu. The result equals the
model to rounding; it is a copy, made on purpose: later changes of the model's weights do not reach it.

Shapes: B batch, C channels, H x W pixels, N tokens, d hidden_size, K heads, p head_dim. Weights are stored as by
nn.Linear, (out, in). Tokens are rows.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import CrateLayer, NormalizedPatchEmbeddings, Sparsification
from ..layers.embeddings import check_image, patchify
from ..layers.positions import interpolate_positions, resample_positions
from ..models import CrateForImageClassification


class NormalizedLinear(nn.Module):
    """A projection of normalised inputs: Linear(LN(x)) with LN's affine part folded into weight and bias."""

    weight: Tensor
    bias: Tensor
    ones: Tensor
    zeros: Tensor

    def __init__(self, norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.eps = norm.eps
        scale, shift = norm.weight.double(), norm.bias.double()  # folding rounds once
        wide = weight.double()  # (out, in)
        offset = wide @ shift if bias is None else wide @ shift + bias.double()
        self.register_buffer("weight", (wide * scale).to(weight.dtype).contiguous())
        self.register_buffer("bias", offset.to(weight.dtype))
        # an affine part that does nothing: torch's kernel without one is not vectorised on the CPU
        self.register_buffer("ones", torch.ones_like(norm.weight))
        self.register_buffer("zeros", torch.zeros_like(norm.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        normalised = F.layer_norm(x, self.ones.shape, self.ones, self.zeros, self.eps)
        return F.linear(normalised, self.weight, self.bias)


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


class FusedLayer(nn.Module):
    """Compress, sparsify; for inference."""

    def __init__(self, layer: CrateLayer):
        super().__init__()
        attention = layer.compression.attention
        self.num_heads, self.head_dim, self.scaling = attention.num_heads, attention.head_dim, attention.scaling
        self.subspaces = NormalizedLinear(layer.compression.norm, attention.subspaces.weight, None)
        self.output = attention.output
        self.sparsification = _fold_sparsification(layer.sparsification)

    def forward(self, tokens: Tensor) -> Tensor:
        """Z_next (B, N, d) of Z (B, N, d)."""
        projected = (
            self.subspaces(tokens).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
        )  # (B, K, N, p)
        mixed = F.scaled_dot_product_attention(projected, projected, projected, scale=self.scaling)
        return self.sparsification(tokens + self.output(mixed.transpose(1, 2).flatten(2)))


class FusedClassifier(nn.Module):
    """Images to logits. Made by `fuse`; other sizes than the model's are accepted, and the positions resampled."""

    cls_token: Tensor
    positions: Tensor

    def __init__(self, model: CrateForImageClassification):
        super().__init__()
        model = deepcopy(model).eval().requires_grad_(False)
        embeddings = model.crate.embeddings
        patches: NormalizedPatchEmbeddings = embeddings.patch_embeddings
        self.config, self.patch_size = model.config, patches.patch_size
        self.patch_projection = NormalizedLinear(patches.patch_norm, patches.projection.weight, patches.projection.bias)
        self.patch_norm = patches.norm
        self.register_buffer("cls_token", embeddings.cls_token.detach())
        self.register_buffer("positions", embeddings.position_embeddings.detach())
        self.layers = nn.Sequential(*(FusedLayer(layer) for layer in model.crate.layers))
        self.classifier = NormalizedLinear(model.norm, model.classifier.weight, model.classifier.bias)
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, num_labels) of images (B, C, H, W).

        Raises:
            ValueError: channels that are not the model's, or sizes that the patches do not divide.
        """
        if torch.compiler.is_exporting():
            grid = (pixel_values.shape[2] // self.patch_size[0], pixel_values.shape[3] // self.patch_size[1])
            positions = interpolate_positions(self.positions, self.config.patch_grid, grid)
        else:
            grid = check_image(pixel_values, self.config, interpolate_pos_encoding=True)
            positions = resample_positions(self.positions, self.config.patch_grid, grid)
        patches = self.patch_norm(self.patch_projection(patchify(pixel_values, self.patch_size)))
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = self.layers(tokens + positions)
        return self.classifier(tokens.mean(dim=1) if self.config.pool == "mean" else tokens[:, 0])


def fuse(model: CrateForImageClassification) -> FusedClassifier:
    """A copy of an image classifier for serving, with everything that is constant at inference folded.

    Args:
        model: the classifier; it is not changed, and later changes of it do not reach the copy.

    Returns:
        a module (B, C, H, W) -> (B, num_labels), equal to the model to rounding. It holds no parameter, takes no
        gradient and records nothing: look inside the model, serve the copy.

    Raises:
        ValueError: a model of another kind, or with weights of half precision (fuse first, convert the copy then).

    Example:
        >>> from crate_transformers import CrateVisionConfig
        >>> model = CrateForImageClassification(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> fuse(model)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 2])
    """
    if not isinstance(model, CrateForImageClassification):
        raise ValueError(f"fuse takes an image classifier (CrateForImageClassification), got {type(model).__name__}")
    if model.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"fuse folds weights in float32 or wider, got {model.dtype}: call model.float() before")
    with torch.no_grad():
        return FusedClassifier(model)


__all__ = ["FusedClassifier", "NormalizedLinear", "fuse"]
