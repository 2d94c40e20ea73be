"""CRATE for images: the backbone and the classifier.

    tokens = [CLS, patches] + positions;  Z_{l+1} = ISTA(LN(Z_l + MSSA(LN(Z_l))));  logits = Linear(LN(pool(Z_L)))

Shapes: B batch, C channels, H x W pixels, N patches, d hidden_size, K heads, m dictionary atoms.

Source: arXiv 2306.01129; the layout of the public classifier.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..configuration import CrateVisionConfig
from ..errors import UserError
from ..layers import ConvPatchEmbeddings, ConvStage, CrateLayer, Linear, VisionEmbeddings, resample_positions
from ..upstream import (
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    can_return_tuple,
    capture_outputs,
    merge_with_config_defaults,
)
from .image_checks import patch_grid_of, resampling_grid
from .modeling_base import (
    CratePreTrainedModel,
    backbone_forward,
    check_labels,
    num_labels_of,
    pass_on_records,
)
from .plan import image_mask, run_layers
from .resizing import ResizesImages


@dataclass
class CrateVisionOutput(BaseModelOutputWithPooling):
    """Outputs of the backbone.

    last_hidden_state (B, 1 + N, d); pooler_output (B, d), the class token or the mean of the tokens. On request, a
    tuple with an entry a layer: hidden_states (L + 1 of (B, 1 + N, d)), attentions ((B, K, 1 + N, 1 + N), eager only),
    half_hidden_states (Z_half, (B, 1 + N, d)), subspace_projections ((B, 1 + N, K p)), memberships
    ((B, 1 + N, K), of tssa), codes ((B, 1 + N, m)). A layer whose blocks make no such record has no entry.
    """

    half_hidden_states: tuple[Tensor, ...] | None = None
    subspace_projections: tuple[Tensor, ...] | None = None
    memberships: tuple[Tensor, ...] | None = None
    codes: tuple[Tensor, ...] | None = None


@dataclass
class CrateImageClassifierOutput(ImageClassifierOutput):
    """Outputs of the classifier: loss (), logits (B, num_labels), and what was asked of the backbone."""

    half_hidden_states: tuple[Tensor, ...] | None = None
    subspace_projections: tuple[Tensor, ...] | None = None
    memberships: tuple[Tensor, ...] | None = None
    codes: tuple[Tensor, ...] | None = None


class CrateVisionPreTrainedModel(ResizesImages, CratePreTrainedModel):
    config: CrateVisionConfig
    config_class = CrateVisionConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    _input_embed_layer = "patch_embeddings"
    _positions_are_learned = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        is_flax = self.config.initialization == "flax"
        if isinstance(module, VisionEmbeddings):
            init.normal_(module.cls_token, std=1e-6 if is_flax else 1.0)
            init.normal_(module.position_embeddings, std=0.02 if is_flax else 1.0)
        elif isinstance(module, ConvStage):
            init.kaiming_uniform_(module.convolution.weight, a=math.sqrt(5))  # torch's default
        elif isinstance(module, ConvPatchEmbeddings) and is_flax:
            init.kaiming_uniform_(module.projection.weight)  # +- sqrt(6 / (C h w))
            assert module.projection.bias is not None
            init.zeros_(module.projection.bias)
        else:
            super()._init_weights(module)

    def _init_linear(self, linear: nn.Linear) -> None:
        if self.config.initialization == "flax":
            init.normal_(linear.weight, std=0.02)
        else:  # torch's own default, as the public code leaves it
            init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
        if linear.bias is not None:
            bound = 1 / math.sqrt(linear.in_features) if self.config.initialization == "public" else 0.0
            init.uniform_(linear.bias, -bound, bound)


class CrateVisionModel(CrateVisionPreTrainedModel):
    """The backbone: images to tokens.

    Example:
        >>> model = CrateVisionModel(CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> model(torch.zeros(2, 3, 32, 32)).last_hidden_state.shape
        torch.Size([2, 17, 384])
    """

    def __init__(self, config: CrateVisionConfig):
        super().__init__(config)
        self.embeddings = VisionEmbeddings(config)
        self.layers = nn.ModuleList([CrateLayer(config, index) for index in range(config.num_hidden_layers)])
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    @torch.no_grad()
    def set_image_size(self, image_size: int | list[int] | tuple[int, int]) -> None:
        """Take images of another size from now on: the positions are resampled, as `interpolate_pos_encoding` does.

        Args:
            image_size: pixels, one number or (height, width).

        Raises:
            ValueError: a size that is no whole number of patches.
        """
        before, config = self.config.patch_grid, copy.deepcopy(self.config)
        config.image_size = image_size
        config.validate_architecture()
        self.config.image_size = image_size
        if config.patch_grid != before:
            table = self.embeddings.position_embeddings
            resampled = resample_positions(table, before, config.patch_grid, config.interpolate_offset)
            self.embeddings.position_embeddings = nn.Parameter(resampled, table.requires_grad)

    def embed(self, pixel_values: Tensor | None, interpolate_pos_encoding: bool = False) -> Tensor:
        """What enters the layers, (B, 1 + N, d), of images (B, C, H, W).

        Raises:
            ValueError: no image, or one whose size or channels do not fit.
        """
        if pixel_values is None:
            raise UserError("pixel_values is required: a (batch, channels, height, width) tensor")
        grid = patch_grid_of(pixel_values, self.config, interpolate_pos_encoding)
        return self.embeddings(pixel_values, resampling_grid(grid, self.config, interpolate_pos_encoding))

    @backbone_forward
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        num_read: int | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> CrateVisionOutput:
        """Run the backbone.

        Args:
            pixel_values: (B, C, H, W), normalised as the image processor does.
            interpolate_pos_encoding: accept other sizes and resample the positions.
            num_read: how many of the last layer's tokens are read, the first ones; no other is made, unless records are
                asked for, a hook is in the backbone, or its last projection is no plain matrix any more. With pool
                "cls", 1 gives the same pooled token for less. None: all.
            attention_mask: which tokens see which, broadcastable to (B, K, 1 + N, 1 + N): additive, or bool with
                True for what is seen; or which tokens are seen at all (B, 1 + N), 1 for those. tssa and cbsa take none.
            kwargs: output_hidden_states, output_attentions, output_half_hidden_states, output_subspace_projections,
                output_memberships, output_codes, return_dict.

        Raises:
            ValueError: no image, or one whose size or channels do not fit.
        """
        attention_mask = image_mask(self, attention_mask)
        tokens = self.embed(pixel_values, interpolate_pos_encoding)
        tokens = run_layers(self, tokens, attention_mask, num_read, **kwargs)
        pooled = tokens.mean(dim=1) if self.config.pool == "mean" else tokens[:, 0]
        return CrateVisionOutput(last_hidden_state=tokens, pooler_output=pooled)


class CrateForImageClassification(CrateVisionPreTrainedModel):
    """The classifier: LayerNorm and one linear layer on the pooled token.

    Example:
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8, num_labels=7)
        >>> CrateForImageClassification(config)(torch.zeros(2, 3, 32, 32)).logits.shape
        torch.Size([2, 7])
    """

    def __init__(self, config: CrateVisionConfig):
        super().__init__(config)
        self.num_labels = num_labels_of(config)
        self.crate = CrateVisionModel(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs: Any,
    ) -> CrateImageClassifierOutput:
        """Classify images. Where the class token is read, the last layer makes that token alone (see `num_read`).

        Args:
            pixel_values: (B, C, H, W). labels: (B,) class numbers (or what `config.problem_type` asks for).
            interpolate_pos_encoding, kwargs: as in `CrateVisionModel.forward`.

        Raises:
            ValueError: an image or a label that does not fit.
        """
        num_read = 1 if self.config.pool == "cls" else None
        outputs = self.crate(pixel_values, interpolate_pos_encoding, num_read, **kwargs)
        logits = self.classifier(self.norm(outputs.pooler_output))
        loss = None
        if labels is not None:
            check_labels(labels, num_labels_of(self.config))
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        return pass_on_records(CrateImageClassifierOutput(loss=loss, logits=logits), outputs)


__all__ = [
    "CrateForImageClassification",
    "CrateImageClassifierOutput",
    "CrateVisionModel",
    "CrateVisionOutput",
    "CrateVisionPreTrainedModel",
]
