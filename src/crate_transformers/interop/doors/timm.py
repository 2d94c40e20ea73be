"""The image classifiers of the library with timm's methods: a model whose tensors have the names of Hugging Face's.

    forward_features(x) = Z_L;   forward_head(Z) = head(drop(LN(pool(Z))))

`crate`, `norm` and `classifier` are the parts of `CrateForImageClassification` (of ToST, whose norm is in its backbone,
`crate` and `classifier`), so a state dict of the one is a state dict of the other. `crate_transformers.timm` has the
names.

Shapes: B batch, C channels, H x W pixels, N patches, P prefix tokens (the class token), d width.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.models import build_model_with_cfg, resolve_pretrained_cfg
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...configuration import MODEL_FAMILIES, CrateVisionConfig, TostVisionConfig
from ...configuration.validation import as_pair
from ...errors import UserError
from ...layers import Linear, resample_positions
from ...models import CrateVisionModel, TostVisionModel
from ...models.plan import run_layers
from ..layouts import recognise
from ..loading import load_state_dict

if TYPE_CHECKING:
    from ...timm import Variant

Maps = Tensor | tuple[Tensor, Tensor]  # of a layer: the patches, or the patches and the class token
POOLS = ("", "token", "avg", "avgmax", "max")
_POSITIONS = "crate.embeddings.position_embeddings"
# timm's keyword -> the field of the configuration
_FIELDS = {
    "img_size": "image_size",
    "in_chans": "num_channels",
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "proj_drop_rate": "hidden_dropout_prob",
    "attn_drop_rate": "attention_probs_dropout_prob",
    "pos_drop_rate": "embedding_dropout_prob",
}
# fields that follow from keywords of timm's
_NOT_GIVEN = {*_FIELDS.values(), "pool"}
# keywords of timm's builder, not of the model
_BUILDER = {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only", "out_indices", "feature_cls"}
_BUILDER |= {"pretrained_model_args", "output_fmt"}


@dataclass(frozen=True)
class HeadOptions:
    """What timm asks of a classifier beside its backbone.

    Attributes:
        num_classes: 0 for no classifier. global_pool: one of POOLS, "" for no pooling.
        pool_include_prefix: whether the class token is averaged too, as the family's `pool="mean"` does.
        drop_rate: dropout before the classifier.
        dynamic_img_size: take images of any size whose sides are whole patches, and resample the positions.
    """

    num_classes: int = 1000
    global_pool: str = "token"
    pool_include_prefix: bool = True
    drop_rate: float = 0.0
    dynamic_img_size: bool = False


def _checked_pool(global_pool: str) -> str:
    if global_pool not in POOLS:
        raise UserError(f"global_pool must be one of {', '.join(map(repr, POOLS))}, got {global_pool!r}")
    return global_pool


class TimmClassifier(nn.Module):
    """A classifier with timm's methods; `timm.create_model` makes it.

    Args:
        config: of the backbone. options: of the head.

    Example:
        >>> config = CrateVisionConfig.from_size("tiny", image_size=32, patch_size=8, num_hidden_layers=2)
        >>> model = TimmClassifier(config, HeadOptions(num_classes=7))
        >>> tokens = model.forward_features(torch.zeros(2, 3, 32, 32))
        >>> tokens.shape, model.forward_head(tokens).shape
        (torch.Size([2, 17, 384]), torch.Size([2, 7]))
    """

    crate: CrateVisionModel | TostVisionModel
    num_prefix_tokens = 1

    def __init__(self, config: CrateVisionConfig | TostVisionConfig, options: HeadOptions):
        super().__init__()
        self.global_pool = _checked_pool(options.global_pool)
        self.pool_include_prefix = options.pool_include_prefix
        self.dynamic_img_size = options.dynamic_img_size
        self.is_tost = isinstance(config, TostVisionConfig)
        self.crate = TostVisionModel(config) if isinstance(config, TostVisionConfig) else CrateVisionModel(config)
        self.in_chans = config.num_channels
        self.num_features = self.head_hidden_size = self.embed_dim = config.hidden_size
        if not self.is_tost:
            self.norm: nn.Module = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head_drop = nn.Dropout(options.drop_rate)
        self._set_classifier(options.num_classes)
        reduction = max(as_pair(config.patch_size))
        self.feature_info = [
            {"module": f"crate.layers.{number}", "num_chs": config.hidden_size, "reduction": reduction}
            for number in range(config.num_hidden_layers)
        ]

    def _set_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.classifier: nn.Module = nn.Identity()
        if num_classes > 0:
            self.classifier = Linear(self.num_features, num_classes)
            self.crate._init_weights(self.classifier)
            self.classifier.to(self.crate.device, self.crate.dtype).train(self.training)
        config = self.crate.config  # so that what is written of it says what the model is
        config.num_labels = num_classes
        if isinstance(config, CrateVisionConfig):
            config.pool = "mean" if self.global_pool == "avg" and self.pool_include_prefix else "cls"

    # ----- forward

    def forward_features(self, x: Tensor) -> Tensor:
        """The tokens of the last layer, (B, 1 + N, d), of images (B, C, H, W).

        The norm of the head comes after pooling, as in the family's equations; ToST's is in its backbone.
        """
        return self._tokens(x)

    def _tokens(self, x: Tensor, num_read: int | None = None) -> Tensor:
        tokens = run_layers(self.crate, self._embed(x), None, None if self.is_tost else num_read)
        return self._finish(tokens)

    def _embed(self, x: Tensor) -> Tensor:
        if isinstance(self.crate, TostVisionModel):
            return self.crate.embed(x)
        return self.crate.embed(x, self.dynamic_img_size)

    def _finish(self, tokens: Tensor) -> Tensor:
        return self.crate.read_out(tokens) if isinstance(self.crate, TostVisionModel) else tokens

    def _normalize(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.crate.norm(tokens) if isinstance(self.crate, TostVisionModel) else self.norm(tokens))

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """(B, 1 + N, d) -> (B, d), or as it is with pool_type "" (None: the model's)."""
        pool_type = self.global_pool if pool_type is None else _checked_pool(pool_type)
        if pool_type in ("", "token"):
            return x[:, 0] if pool_type else x
        x = x if self.pool_include_prefix else x[:, self.num_prefix_tokens :]
        if pool_type == "avg":
            return x.mean(dim=1)
        return x.amax(dim=1) if pool_type == "max" else (x.mean(dim=1) + x.amax(dim=1)) / 2

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool, norm, dropout, and the classifier where pre_logits is False: (B, 1 + N, d) -> (B, num_classes)."""
        x = self.pool(x)
        x = self.head_drop(x if self.is_tost else self.norm(x))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, C, H, W).

        Where the class token is read, the last layer makes that token alone.
        """
        return self.forward_head(self._tokens(x, 1 if self.global_pool == "token" else None))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Maps] | tuple[Tensor, list[Maps]]:
        """What layers give.

        Args:
            x: (B, C, H, W). indices: layers, negative ones from the end; a number for so many of the last; None: all.
            return_prefix_tokens: give (patches, class token (B, 1, d)) a layer; ToST's layers have no class token, and
                give the patches alone. norm: pass them through the last norm. stop_early: run no layer after the last
                one asked for. output_fmt: "NCHW", maps (B, d, rows, columns), or "NLC", tokens (B, N, d).
            intermediates_only: give the list alone.

        Returns:
            (what forward_features gives, a list with an entry a layer asked for), or that list.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise UserError(f"output_fmt must be 'NCHW' or 'NLC', got {output_fmt!r}")
        layers = self.crate.layers
        wanted = _layers_of(indices, len(layers))
        last = max(wanted)
        tokens, taken = self._embed(x), {}
        for number, layer in enumerate(layers[: last + 1] if stop_early else layers):
            tokens = layer(tokens, None)
            if number in wanted:
                taken[number] = self._normalize(tokens) if norm else tokens
        grid = self.crate.config.grid_of(*x.shape[-2:])
        given = [self._as_asked(taken[number], grid, output_fmt, return_prefix_tokens) for number in sorted(taken)]
        return given if intermediates_only else (self._finish(tokens), given)

    def _as_asked(self, tokens: Tensor, grid: tuple[int, int], output_fmt: str, with_prefix: bool) -> Maps:
        num_prefix = 0 if self.is_tost else self.num_prefix_tokens
        prefix, patches = tokens[:, :num_prefix], tokens[:, num_prefix:]
        if output_fmt == "NCHW":
            patches = patches.mT.unflatten(2, grid).contiguous()
        return (patches, prefix) if with_prefix and num_prefix else patches

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers after the last one asked for; the norm and the head where asked. Gives the layers' numbers.

        ToST keeps its class attention and its norm only together with the head.
        """
        wanted = _layers_of(indices, len(self.crate.layers))
        last = max(wanted)
        self.crate.layers = self.crate.layers[: last + 1]
        del self.feature_info[last + 1 :]
        config = self.crate.config
        config.num_hidden_layers = last + 1
        for name in ("compression", "sparsification"):
            if not isinstance(getattr(config, name), str):  # one a layer
                setattr(config, name, list(getattr(config, name))[: last + 1])
        if isinstance(self.crate, TostVisionModel):
            if prune_head:
                self.crate.class_layers = nn.ModuleList()
            if prune_norm:
                self.crate.norm = nn.Identity()
        elif prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return wanted

    # ----- head

    def get_classifier(self) -> nn.Module:
        """The last linear layer; an identity where there are no classes."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new last linear layer, and another pooling where global_pool is one of POOLS.

        Raises:
            ValueError: another pooling.
        """
        if global_pool is not None:
            self.global_pool = _checked_pool(global_pool)
        self._set_classifier(num_classes)

    # ----- training

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of the tensors that decay leaves alone beside biases and norms: class token and positions."""
        return {"crate.cls_token"} if self.is_tost else {"crate.embeddings.cls_token", _POSITIONS}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of the groups that layer decay tells apart: the stem, then the layers."""
        if self.is_tost:
            return {
                "stem": r"^crate\.embeddings|^crate\.cls_token",
                "blocks": r"^crate\.layers\.(\d+)",
                "class_blocks": [(r"^crate\.class_layers\.(\d+)", None), (r"^crate\.norm", (99999,))],
            }
        return {
            "stem": r"^crate\.embeddings",
            "blocks": [(r"^crate\.layers\.(\d+)", None), (r"^norm", (99999,))],
        }

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the layers again in the backward pass instead of keeping what is in them."""
        end = "enable" if enable else "disable"
        names = (f"activation_checkpointing_{end}", f"gradient_checkpointing_{end}")  # transformers 5.24, and before
        next(getattr(self.crate, name) for name in names if hasattr(self.crate, name))()

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """Take images of another size: the positions are resampled to it.

        Raises:
            ValueError: a size that is no whole number of patches, another patch size.
        """
        config = self.crate.config
        if patch_size is not None and as_pair(patch_size) != as_pair(config.patch_size):
            raise UserError(f"patches are of {config.patch_size} pixels, and stay so: leave patch_size out")
        if img_size is None:
            return
        if isinstance(self.crate, CrateVisionModel):
            self.crate.set_image_size(img_size)
        else:
            config.image_size = img_size
        size = as_pair(img_size)  # where newer versions of timm look for it
        self._traits = dict(getattr(self, "_traits", {}), img_size=size)
        self._model_args = dict(getattr(self, "_model_args", {}), img_size=size)

    # ----- weights

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict of this model, of the Hugging Face model, or of a public layout.

        Args:
            strict, assign: as in torch.nn.Module.load_state_dict, which this calls.

        Raises:
            ValueError: names of no layout, or of another family's.
            RuntimeError: missing, unexpected or misshapen tensors, as torch says it.
        """
        return super().load_state_dict(own_names(state_dict, type(self.crate.config)), strict=strict, assign=assign)

    def load_pretrained(self, checkpoint_path: str, prefix: str = "") -> None:
        """Load a file of a public layout, flax's .npz among them; timm calls it for those.

        Raises:
            ValueError: a file of another kind, or a prefix, which no layout has.
        """
        if prefix:
            raise UserError(f"names in a public checkpoint have no prefix, got {prefix!r}")
        self.load_state_dict(load_state_dict(checkpoint_path)[0])


def _layers_of(indices: int | Sequence[int] | None, depth: int) -> list[int]:
    """The numbers of the layers that timm's indices ask for: so many of the last, or those of a list."""
    if indices is None or isinstance(indices, int):
        indices = range(-(depth if indices is None else indices), 0)
    if not indices or not all(-depth <= index < depth for index in indices):
        raise UserError(
            f"indices must be layers of {depth}, or from 1 to {depth} for so many of the last, got {indices}"
        )
    return [index % depth for index in indices]


def own_names(state: Mapping[str, Any], config_class: type[CrateVisionConfig | TostVisionConfig]) -> dict[str, Any]:
    """A state dict of this library, with or without a head, or of a public layout, under this library's names.

    Raises:
        ValueError: names of no layout, or of another family's.
    """
    if any(name.startswith("crate.layers.") for name in state):
        return dict(state)
    if any(name.startswith("layers.") for name in state):  # a Hugging Face backbone, saved without a head
        return {f"crate.{name}": tensor for name, tensor in state.items()}
    tensors, _ = load_state_dict(state)
    layout = recognise(tensors)
    if layout.config_class is not config_class:
        kind = config_class.model_type
        raise UserError(f"a checkpoint of the {layout.name} layout is no {kind}: crate convert makes a model of it")
    return layout.translate(tensors)[0]


def fit(state: Mapping[str, Any], model: TimmClassifier) -> dict[str, Any]:
    """A state dict under the model's names, its positions resampled to the model's grid. timm calls it for weights that
    a `pretrained_cfg` names.

    Raises:
        ValueError: positions of a grid that is not square.
    """
    named = own_names(state, type(model.crate.config))
    table, config = named.get(_POSITIONS), model.crate.config
    if isinstance(config, CrateVisionConfig) and table is not None and table.shape[1] != config.num_patches + 1:
        side = math.isqrt(table.shape[1] - 1)
        if side * side != table.shape[1] - 1:
            raise UserError(
                f"the {table.shape[1] - 1} positions of the checkpoint are no square grid: create the model with the "
                "checkpoint's img_size, then call set_input_size"
            )
        named[_POSITIONS] = resample_positions(table, (side, side), config.patch_grid, config.interpolate_offset)
    return named


def _check_keywords(variant: "Variant", keywords: Mapping[str, Any]) -> None:
    """Refuse a keyword that nothing reads."""
    config_class = MODEL_FAMILIES[variant.family].config_class()
    fields = set(config_class.__dataclass_fields__) - set(PreTrainedConfig.__dataclass_fields__)
    known = {*fields - _NOT_GIVEN, *(name for name, field in _FIELDS.items() if field in fields), *_BUILDER}
    known |= {*HeadOptions.__dataclass_fields__, "device", "dtype"}
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{variant.name} does not know the keyword {name!r}{hint}")
    if keywords.get("feature_cls") not in (None, "getter"):
        raise UserError(f"feature_cls must be 'getter', got {keywords['feature_cls']!r}")


def _model_of(variant: "Variant", keywords: dict[str, Any]) -> TimmClassifier:
    place = {name: keywords.pop(name) for name in ("device", "dtype") if name in keywords}
    options = {name: keywords.pop(name) for name in HeadOptions.__dataclass_fields__ if name in keywords}
    fields = {_FIELDS.get(name, name): value for name, value in keywords.items()}
    return TimmClassifier(variant.config(**fields), HeadOptions(**options)).to(**place)


def build(variant: "Variant", pretrained: bool, keywords: dict[str, Any]) -> nn.Module:
    """The model of a name, as `timm.create_model` asks for it.

    Args:
        keywords: of HeadOptions; timm's names of sizes and rates (img_size, patch_size, in_chans, embed_dim, depth,
            num_heads, drop_path_rate, ...); any other field of the configuration; device, dtype; features_only,
            out_indices and what else timm's builder reads.

    Raises:
        ValueError: a keyword that is not known, fields that do not fit, weights asked for where none are published.
    """
    _check_keywords(variant, keywords)
    overlay = keywords.get("pretrained_cfg_overlay")
    weights = resolve_pretrained_cfg(variant.name, keywords.get("pretrained_cfg"), overlay)
    if pretrained and not (weights.has_weights or weights.state_dict):
        raise UserError(
            f"no weights are published under {variant.name}: leave pretrained out, or pass checkpoint_path=FILE, a "
            "public checkpoint or the model.safetensors of a folder"
        )

    def create(**given: object) -> TimmClassifier:
        return _model_of(variant, given)

    return cast(
        nn.Module,
        build_model_with_cfg(
            create,
            variant.name,
            pretrained,
            feature_cfg={"out_indices": 3, "feature_cls": "getter"},
            pretrained_filter_fn=fit,
            **keywords,
        ),
    )


__all__ = ["POOLS", "HeadOptions", "TimmClassifier", "build", "fit", "own_names"]
