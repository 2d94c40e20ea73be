"""ToST for images: the backbone and the classifier.

    tokens = stem(image) + positions;   Z <- Z + g_1 TSSA(LN(Z)),  Z <- Z + g_2 MLP(LN(Z)), L times;
    [class; Z] through class attention;   logits = Linear(LN(class))

Shapes: B batch, C channels, H x W pixels, N patches, d hidden_size, K heads.

Source: arXiv 2412.17810; the layout of its public image model.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..configuration import TostVisionConfig
from ..errors import UserError
from ..layers import ConvStage, CrateLayer, Linear, TostEmbeddings
from ..layers.class_attention import ClassAttentionLayer
from ..upstream import (
    ImageClassifierOutput,
    can_return_tuple,
    capture_outputs,
    merge_with_config_defaults,
)
from .modeling_base import CratePreTrainedModel, backbone_forward, check_labels, num_labels_of, pass_on_records
from .modeling_crate_vision import CrateImageClassifierOutput, CrateVisionOutput
from .plan import run_layers
from .resizing import ResizesImages


@dataclass
class TostVisionOutput(CrateVisionOutput):
    """Outputs of the backbone: last_hidden_state (B, 1 + N, d) after the last norm, pooler_output (B, d), the class
    token; on request the records of CrateVisionOutput, of the N patches alone: the class token comes after the layers.
    """


class TostVisionPreTrainedModel(ResizesImages, CratePreTrainedModel):
    config: TostVisionConfig
    config_class = TostVisionConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    _input_embed_layer = "patch_embeddings"
    _no_split_modules = ["CrateLayer", "ClassAttentionLayer"]  # noqa: RUF012 (the parent's declaration)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, TostVisionModel):
            init.trunc_normal_(module.cls_token, std=self.config.initializer_range)
        elif isinstance(module, ConvStage):
            init.kaiming_uniform_(module.convolution.weight, a=math.sqrt(5))  # torch's default
        else:
            super()._init_weights(module)

    def _init_linear(self, linear: nn.Linear) -> None:
        init.trunc_normal_(linear.weight, std=self.config.initializer_range)
        if linear.bias is not None:
            init.zeros_(linear.bias)


class TostVisionModel(TostVisionPreTrainedModel):
    """The backbone: images to tokens.

    Example:
        >>> config = TostVisionConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, patch_size=8)
        >>> TostVisionModel(config)(torch.zeros(2, 3, 20, 33)).last_hidden_state.shape
        torch.Size([2, 16, 48])
    """

    def __init__(self, config: TostVisionConfig):
        super().__init__(config)
        self.embeddings = TostEmbeddings(config)
        self.layers = nn.ModuleList([CrateLayer(config, index) for index in range(config.num_hidden_layers)])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.class_layers = nn.ModuleList(
            [ClassAttentionLayer(config) for _ in range(config.num_class_attention_layers)]
        )
        self.norm: nn.Module = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    def embed(self, pixel_values: Tensor | None) -> Tensor:
        """What enters the layers, (B, N, d), of images (B, C, H, W) of any size.

        Raises:
            ValueError: no image, or one whose channels do not fit.
        """
        if pixel_values is None or pixel_values.ndim != 4:
            got = None if pixel_values is None else tuple(pixel_values.shape)
            raise UserError(f"pixel_values must be (batch, channels, height, width), got {got}")
        if pixel_values.shape[1] != self.config.num_channels:
            raise UserError(
                f"expected {self.config.num_channels} channels, got {pixel_values.shape[1]}: convert the images, or "
                f"build the model with num_channels={pixel_values.shape[1]}"
            )
        return self.embeddings(pixel_values)

    def read_out(self, tokens: Tensor) -> Tensor:
        """Class attention over what the layers give: (B, N, d) -> (B, 1 + N, d) after the last norm."""
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for layer in self.class_layers:
            tokens = layer(tokens)
        return self.norm(tokens)

    @backbone_forward
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = False, **kwargs: Any
    ) -> TostVisionOutput:
        """Run the backbone.

        Args:
            pixel_values: (B, C, H, W) of any size, normalised as the image processor does; a patch at the border may
                be cut off.
            interpolate_pos_encoding: either way: positions are computed for each size.
            kwargs: output_hidden_states, output_attentions, output_half_hidden_states, output_subspace_projections,
                output_memberships, output_codes, return_dict.

        Raises:
            ValueError: no image, or one whose channels do not fit.
        """
        tokens = self.read_out(run_layers(self, self.embed(pixel_values), **kwargs))
        return TostVisionOutput(last_hidden_state=tokens, pooler_output=tokens[:, 0])


class TostForImageClassification(TostVisionPreTrainedModel):
    """The classifier: one linear layer on the class token.

    Example:
        >>> config = TostVisionConfig(
        ...     hidden_size=48, num_hidden_layers=2, num_attention_heads=3, patch_size=8, num_labels=7
        ... )
        >>> TostForImageClassification(config)(torch.zeros(2, 3, 32, 32)).logits.shape
        torch.Size([2, 7])
    """

    def __init__(self, config: TostVisionConfig):
        super().__init__(config)
        self.num_labels = num_labels_of(config)
        self.crate = TostVisionModel(config)
        self.classifier = Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        """Classify images.

        Args:
            labels: (B,) class numbers (or what `config.problem_type` asks for). The others are those of
                `TostVisionModel.forward`.

        Raises:
            ValueError: an image or a label that does not fit.
        """
        outputs = self.crate(pixel_values, interpolate_pos_encoding, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = None
        if labels is not None:
            check_labels(labels, num_labels_of(self.config))
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        return pass_on_records(CrateImageClassifierOutput(loss=loss, logits=logits), outputs)


__all__ = [
    "TostForImageClassification",
    "TostVisionModel",
    "TostVisionOutput",
    "TostVisionPreTrainedModel",
]
