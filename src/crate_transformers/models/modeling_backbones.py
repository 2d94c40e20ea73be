"""The image models as backbones of other networks: maps of features, a stage a layer, for `AutoBackbone`.

    F_l = the patches of Z_l, as a map;   stage "stem" is l = 0, "stage1" l = 1, ...

Shapes: B batch, C channels, H x W pixels, h x w patches, N = h w, d hidden_size, L layers.
"""

from typing import Any, cast

from torch import Tensor, nn

from ..configuration import CrateMAEConfig, CrateVisionConfig, TostVisionConfig
from ..errors import UserError
from ..upstream import BackboneMixin, BackboneOutput, can_return_tuple, filter_output_hidden_states
from .modeling_crate_mae import CrateMAEModel, CrateMAEPreTrainedModel
from .modeling_crate_vision import CrateVisionModel, CrateVisionPreTrainedModel
from .modeling_tost_vision import TostVisionModel, TostVisionPreTrainedModel


class _StageMaps(BackboneMixin):
    """A backbone whose stages are the layers of `crate`."""

    config: CrateVisionConfig | CrateMAEConfig | TostVisionConfig
    crate: CrateVisionModel | CrateMAEModel | TostVisionModel
    num_features: list[int]
    _num_prefix = 0  # tokens of a layer before the patches

    def get_input_embeddings(self) -> nn.Module:
        return self.crate.get_input_embeddings()

    @property
    def out_features(self) -> list[str]:
        """Names of the stages that are given."""
        return self.config.out_features

    @out_features.setter
    def out_features(self, names: list[str]) -> None:
        self.config.out_features = names

    @property
    def out_indices(self) -> list[int]:
        """Numbers of the stages that are given."""
        return self.config.out_indices

    @out_indices.setter
    def out_indices(self, numbers: tuple[int, ...] | list[int]) -> None:
        self.config.out_indices = list(numbers)

    @can_return_tuple
    @filter_output_hidden_states
    def forward(
        self, pixel_values: Tensor | None = None, interpolate_pos_encoding: bool = True, **kwargs: object
    ) -> BackboneOutput:
        """Feature maps of images, (B, d, h, w) a stage of `out_features`, as the layers give them: no norm follows.

        With `config.reshape_hidden_states=False` a map is the tokens, (B, 1 + N, d).

        Args:
            pixel_values: (B, C, H, W), normalised as the image processor does.
            interpolate_pos_encoding: accept other sizes and resample the positions, for the networks that a backbone
                is part of bring their own.
            kwargs: output_hidden_states (L + 1 of (B, 1 + N, d), of ToST without the class token), output_attentions,
                return_dict, and what else the model itself takes.

        Raises:
            ValueError: no image, or one whose size or channels do not fit.
        """
        outputs = self.crate(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        assert pixel_values is not None  # or the model had raised
        grid = self.config.grid_of(*pixel_values.shape[-2:])
        maps = tuple(
            self._as_map(tokens, grid) if self.config.reshape_hidden_states else tokens
            for stage, tokens in zip(self.stage_names, outputs.hidden_states, strict=True)
            if stage in self.out_features
        )
        records = {"hidden_states": outputs.hidden_states, "attentions": outputs.get("attentions")}
        return BackboneOutput(feature_maps=cast(tuple[Tensor], maps), **records)

    def _as_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return tokens[:, self._num_prefix :].mT.unflatten(2, grid).contiguous()


class CrateVisionBackbone(_StageMaps, CrateVisionPreTrainedModel):
    """CRATE as a backbone, with the weights of a backbone or a classifier.

    Example:
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8, out_features=["stem", "stage6"])
        >>> [tuple(one.shape) for one in CrateVisionBackbone(config)(torch.zeros(2, 3, 32, 48)).feature_maps]
        [(2, 384, 4, 6), (2, 384, 4, 6)]
    """

    config: CrateVisionConfig
    _num_prefix = 1

    def __init__(self, config: CrateVisionConfig):
        super().__init__(config)
        self.num_features = [config.hidden_size] * len(self.stage_names)
        self.crate = CrateVisionModel(config)
        self.post_init()


class CrateMAEBackbone(_StageMaps, CrateMAEPreTrainedModel):
    """The encoder of the masked autoencoder as a backbone: the whole image, without the norm after the layers.

    Example:
        >>> config = CrateMAEConfig.from_size("tiny", image_size=32, patch_size=8, out_features=["stage12"])
        >>> [tuple(one.shape) for one in CrateMAEBackbone(config)(torch.zeros(2, 3, 32, 32)).feature_maps]
        [(2, 384, 4, 4)]
    """

    config: CrateMAEConfig
    _num_prefix = 1
    _keys_to_ignore_on_load_unexpected = [r"^decoder\.", r"^(crate\.)?norm\."]  # noqa: RUF012 (the parent's)

    def __init__(self, config: CrateMAEConfig):
        super().__init__(config)
        self.num_features = [config.hidden_size] * len(self.stage_names)
        self.crate = CrateMAEModel(config)
        # no feature is made of these: they would have no gradient, or none but 0
        cast(Any, self.crate).norm = nn.Identity()
        self.crate.embeddings.mask_token.requires_grad_(False)
        self.post_init()


class TostVisionBackbone(_StageMaps, TostVisionPreTrainedModel):
    """ToST as a backbone: its layers, without the class attention after them.

    Example:
        >>> config = TostVisionConfig(
        ...     hidden_size=48, num_hidden_layers=2, num_attention_heads=3, patch_size=8, out_indices=[1, 2]
        ... )
        >>> [tuple(one.shape) for one in TostVisionBackbone(config)(torch.zeros(2, 3, 20, 33)).feature_maps]
        [(2, 48, 3, 5), (2, 48, 3, 5)]
    """

    config: TostVisionConfig
    _keys_to_ignore_on_load_unexpected = [r"(^|\.)class_layers\.", r"^(crate\.)?norm\."]  # noqa: RUF012 (the parent's)

    def __init__(self, config: TostVisionConfig):
        if not config.reshape_hidden_states:
            raise UserError("the layers of ToST have no class token, so it gives maps: leave reshape_hidden_states out")
        super().__init__(config)
        self.num_features = [config.hidden_size] * len(self.stage_names)
        self.crate = TostVisionModel(config)
        # no feature is made of these: they would have no gradient
        self.crate.class_layers, self.crate.norm = nn.ModuleList(), nn.Identity()
        self.crate.cls_token.requires_grad_(False)
        self.post_init()


__all__ = ["CrateMAEBackbone", "CrateVisionBackbone", "TostVisionBackbone"]
