"""The CRATE masked autoencoder: encoder, decoder (its mirror image), reconstruction loss.

    tokens = [CLS, patches or mask tokens] + fixed positions;  encoder layers, LN;  decoder layers, LN, Linear -> pixels

Unlike in the autoencoder of arXiv 2111.06377, mask tokens go through the encoder, so all tokens keep their place.

Shapes: B batch, C channels, H x W pixels, h x w patch, N patches, d hidden_size.

Source: arXiv 2404.02446; the layout of the public autoencoder, without its two tensors that are never used.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..configuration import CrateMAEConfig
from ..configuration.validation import as_pair
from ..errors import UserError
from ..layers import (
    CompressionOperator,
    ConvPatchEmbeddings,
    CrateDecoderLayer,
    CrateLayer,
    Expansion,
    Linear,
    patchify,
    resample_positions,
    sincos_positions,
    unpatchify,
)
from ..upstream import (
    BaseModelOutput,
    ModelOutput,
    OutputRecorder,
    can_return_tuple,
    capture_outputs,
    merge_with_config_defaults,
)
from .image_checks import patch_grid_of, resampling_grid
from .modeling_base import CratePreTrainedModel, backbone_forward, output_of, pass_on_records
from .plan import image_mask, run_layers
from .resizing import ResizesImages


@dataclass
class CrateMAEModelOutput(BaseModelOutput):
    """Outputs of the encoder: last_hidden_state (B, 1 + N, d) after the final norm, mask (B, N) with 1 = removed.

    On request, a tuple with an entry a layer: hidden_states, attentions, half_hidden_states, subspace_projections,
    codes, as in CrateVisionOutput (the last hidden state here is the one before the final norm).
    """

    mask: Tensor | None = None
    half_hidden_states: tuple[Tensor, ...] | None = None
    subspace_projections: tuple[Tensor, ...] | None = None
    memberships: tuple[Tensor, ...] | None = None
    codes: tuple[Tensor, ...] | None = None


@dataclass
class CrateMAEForPreTrainingOutput(ModelOutput):
    """Outputs of the autoencoder.

    loss (), logits (B, N, h * w * C) predicted patches, mask (B, N) with 1 = removed; on request the encoder's records,
    and (each by its own flag) the decoder's: decoder_hidden_states (L + 1), decoder_attentions.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    half_hidden_states: tuple[Tensor, ...] | None = None
    subspace_projections: tuple[Tensor, ...] | None = None
    memberships: tuple[Tensor, ...] | None = None
    codes: tuple[Tensor, ...] | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None


def mask_of_noise(noise: Tensor, mask_ratio: float) -> Tensor:
    """The mask that keeps the int(N (1 - mask_ratio)) patches of lowest noise.

    Args:
        noise: (B, N). mask_ratio: in [0, 1).

    Returns:
        (B, N) float32, 1 where a patch is removed.
    """
    num_kept = int(noise.shape[1] * (1 - mask_ratio))
    rank = noise.argsort(dim=1).argsort(dim=1)
    return (rank >= num_kept).float()


class MAEEmbeddings(nn.Module):
    """Patch tokens, some replaced by the mask token, the class token before them, plus fixed positions."""

    position_embeddings: Tensor

    def __init__(self, config: CrateMAEConfig):
        super().__init__()
        self.config = config
        self.patch_embeddings = ConvPatchEmbeddings(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.register_buffer(
            "position_embeddings", sincos_positions(config.hidden_size, config.patch_grid), persistent=False
        )

    def forward(self, pixel_values: Tensor, mask: Tensor | None = None, grid: tuple[int, int] | None = None) -> Tensor:
        """(B, C, H, W) and a mask (B, N), or none, -> (B, 1 + N, d); grid as in `VisionEmbeddings`."""
        patches = self.patch_embeddings(pixel_values)
        if mask is None:
            mask = patches.new_zeros(patches.shape[:2])
        removed = mask.to(patches.dtype).unsqueeze(-1)
        # the mask token takes part even where nothing is removed, so that it always has a gradient
        patches = patches * (1 - removed) + self.mask_token * removed
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        positions = self.position_embeddings
        if grid is not None:
            positions = resample_positions(positions, self.config.patch_grid, grid)
        return tokens + positions.to(tokens.dtype)


class CrateMAEPreTrainedModel(ResizesImages, CratePreTrainedModel):
    config: CrateMAEConfig
    config_class = CrateMAEConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    _input_embed_layer = "patch_embeddings"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, MAEEmbeddings):
            init.normal_(module.cls_token, std=self.config.initializer_range)
            init.normal_(module.mask_token, std=self.config.initializer_range)
            init.copy_(module.position_embeddings, sincos_positions(self.config.hidden_size, self.config.patch_grid))
        elif isinstance(module, nn.Conv2d):
            if not getattr(module.weight, "_is_hf_initialized", False):  # the view below would not carry this flag
                init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def _init_linear(self, linear: nn.Linear) -> None:
        init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            init.zeros_(linear.bias)


class CrateMAEModel(CrateMAEPreTrainedModel):
    """The encoder. It masks only when `noise` or `mask_ratio` is passed; else it encodes the whole image.

    Example:
        >>> model = CrateMAEModel(CrateMAEConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> model(torch.zeros(2, 3, 32, 32)).last_hidden_state.shape
        torch.Size([2, 17, 384])
    """

    def __init__(self, config: CrateMAEConfig):
        super().__init__(config)
        self.embeddings = MAEEmbeddings(config)
        self.layers = nn.ModuleList([CrateLayer(config, index) for index in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    @backbone_forward
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor | None = None,
        noise: Tensor | None = None,
        mask_ratio: float | None = None,
        interpolate_pos_encoding: bool = False,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> CrateMAEModelOutput:
        """Encode images.

        Args:
            pixel_values: (B, C, H, W).
            noise: (B, N); the patches of lowest noise are kept. With mask_ratio alone it is drawn.
            mask_ratio: fraction removed, in [0, 1); with noise alone it is the configuration's.
            interpolate_pos_encoding: accept other sizes and resample the positions.
            attention_mask: as in `CrateVisionModel.forward`.
            kwargs: output_hidden_states and the other records, return_dict.

        Raises:
            ValueError: an image that does not fit, a noise of another shape, a ratio outside [0, 1).
        """
        if pixel_values is None:
            raise UserError("pixel_values is required: a (batch, channels, height, width) tensor")
        attention_mask = image_mask(self, attention_mask)
        grid = patch_grid_of(pixel_values, self.config, interpolate_pos_encoding)
        mask = self._choose_mask(pixel_values, noise, mask_ratio, grid)
        tokens = self.embeddings(pixel_values, mask, resampling_grid(grid, self.config, interpolate_pos_encoding))
        tokens = run_layers(self, tokens, attention_mask, **kwargs)
        return CrateMAEModelOutput(last_hidden_state=self.norm(tokens), mask=mask)

    def _choose_mask(
        self, pixel_values: Tensor, noise: Tensor | None, mask_ratio: float | None, grid: tuple[int, int]
    ) -> Tensor | None:
        if noise is None and mask_ratio is None:
            return None
        mask_ratio = self.config.mask_ratio if mask_ratio is None else mask_ratio
        if not 0 <= mask_ratio < 1:
            raise UserError(f"mask_ratio must be in [0, 1), got {mask_ratio}")
        shape = (pixel_values.shape[0], grid[0] * grid[1])
        if noise is None:
            noise = torch.rand(shape, device=pixel_values.device)
        elif noise.shape != shape:
            raise UserError(f"noise must be (batch, patches) = {shape}, got {tuple(noise.shape)}")
        return mask_of_noise(noise, mask_ratio)


class CrateMAEDecoder(CrateMAEPreTrainedModel):
    """The decoder: tokens to predicted patches. A model of its own so that its layers are recorded apart."""

    _can_record_outputs = {  # noqa: RUF012 (the parent's declaration)
        "hidden_states": OutputRecorder(CrateDecoderLayer),
        "attentions": OutputRecorder(CompressionOperator, index=1),
        "half_hidden_states": OutputRecorder(Expansion),
        "subspace_projections": output_of(".expansion.attention.subspaces"),
    }

    def __init__(self, config: CrateMAEConfig):
        super().__init__(config)
        assert config.decoder_num_hidden_layers is not None  # filled in after construction
        self.layers = nn.ModuleList([CrateDecoderLayer(config, i) for i in range(config.decoder_num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        patch_height, patch_width = as_pair(config.patch_size)
        self.prediction = Linear(config.hidden_size, patch_height * patch_width * config.num_channels)
        self.post_init()

    @backbone_forward
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(self, hidden_states: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Tokens (B, 1 + N, d) to patches (B, N, h * w * C), given as last_hidden_state."""
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return BaseModelOutput(last_hidden_state=self.prediction(self.norm(hidden_states))[:, 1:])


class CrateMAEForPreTraining(CrateMAEPreTrainedModel):
    """Encoder, decoder and the reconstruction loss.

    Example:
        >>> model = CrateMAEForPreTraining(CrateMAEConfig.from_size("tiny", image_size=32, patch_size=8))
        >>> out = model(torch.zeros(2, 3, 32, 32))
        >>> out.logits.shape, out.mask.sum(dim=1).tolist()
        (torch.Size([2, 16, 192]), [12.0, 12.0])
    """

    def __init__(self, config: CrateMAEConfig):
        super().__init__(config)
        self.crate = CrateMAEModel(config)
        self.decoder = CrateMAEDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.crate.get_input_embeddings()

    def patchify(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, h * w * C), ordered (row in patch, column in patch, channel)."""
        return patchify(pixel_values, as_pair(self.config.patch_size))

    def unpatchify(self, patches: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """(B, N, h * w * C) -> (B, C, H, W); grid (rows, columns) where it is not the configuration's."""
        return unpatchify(patches, as_pair(self.config.patch_size), grid or self.config.patch_grid)

    def reconstruction_loss(self, pixel_values: Tensor, prediction: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error on the removed patches; on all patches where none was removed.

        With `norm_pix_loss` each target patch is normalised, (x - mean) / sqrt(var + 1e-6) with Bessel's correction.
        """
        target = self.patchify(pixel_values).to(prediction.dtype)
        if self.config.norm_pix_loss:
            mean, variance = target.mean(dim=-1, keepdim=True), target.var(dim=-1, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        error = (prediction - target).square().mean(dim=-1)  # (B, N)
        weight = torch.where(mask.sum() > 0, mask, torch.ones_like(mask))
        return (error * weight).sum() / weight.sum()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        noise: Tensor | None = None,
        mask_ratio: float | None = None,
        interpolate_pos_encoding: bool = False,
        output_decoder_hidden_states: bool = False,
        output_decoder_attentions: bool = False,
        **kwargs: Any,
    ) -> CrateMAEForPreTrainingOutput:
        """Mask, encode, decode, compare.

        Arguments as in `CrateMAEModel.forward`; the default ratio is the configuration's. `output_hidden_states` and
        its like record the encoder; `output_decoder_hidden_states` and `output_decoder_attentions` the decoder.
        """
        mask_ratio = self.config.mask_ratio if mask_ratio is None else mask_ratio
        decoder_records = {
            "output_hidden_states": output_decoder_hidden_states,
            "output_attentions": output_decoder_attentions,
        }
        encoded = self.crate(pixel_values, noise, mask_ratio, interpolate_pos_encoding, **kwargs)
        decoded = self.decoder(encoded.last_hidden_state, **decoder_records)
        prediction = decoded.last_hidden_state
        assert pixel_values is not None  # or the encoder had raised
        outputs = CrateMAEForPreTrainingOutput(
            loss=self.reconstruction_loss(pixel_values, prediction, encoded.mask),
            logits=prediction,
            mask=encoded.mask,
            decoder_hidden_states=decoded.get("hidden_states"),
            decoder_attentions=decoded.get("attentions"),
        )
        return pass_on_records(outputs, encoded)


__all__ = [
    "CrateMAEDecoder",
    "CrateMAEForPreTraining",
    "CrateMAEForPreTrainingOutput",
    "CrateMAEModel",
    "CrateMAEModelOutput",
    "mask_of_noise",
]
