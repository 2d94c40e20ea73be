"""Weights of one image or patch size in a model of another: what `ignore_mismatched_sizes` means for images.

    P' = resample(P, grid of the weights -> grid of the model)

Learned positions are resampled as `interpolate_pos_encoding` does, so that the model computes what the saved one
computes of such images; fixed ones are made for the new grid; those of ToST are computed for any. A patch of another
size needs other weights: the patch embedding is drawn anew. Each is said in a line.
"""

import copy
import logging
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration.image_config import CrateImageConfig
from ..configuration.validation import as_pair
from ..errors import UserError

logger = logging.getLogger(__name__)

_OF_HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
Size = int | list[int] | tuple[int, int]
_PATCHES = "patch_embeddings"


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]} x {pair[1]}"


def with_sizes_of(config: PreTrainedConfig, stored: PreTrainedConfig) -> PreTrainedConfig:
    """A configuration with the image and patch size of another, to compare all else with it."""
    result: Any = copy.deepcopy(config)
    for name in ("image_size", "patch_size"):
        if hasattr(stored, name):
            setattr(result, name, getattr(stored, name))
    return cast(PreTrainedConfig, result)


class ResizesImages(PreTrainedModel):
    """What the image models add to `from_pretrained`."""

    _positions_are_learned = False

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str] | None,
        *arguments: object,
        config: PreTrainedConfig | str | PathLike[str] | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **keywords: object,
    ) -> Any:
        """transformers' `from_pretrained`; with ignore_mismatched_sizes also at another `image_size` or `patch_size`.

        Learned positions are then resampled to the new patches; where patches have another size, the patch embedding is
        drawn anew. A warning says so; with output_loading_info, the entry "resized".

        Raises:
            ValueError: sizes that do not fit each other, beside what transformers raises.
        """
        source = pretrained_model_name_or_path
        options: dict[str, Any] = {"ignore_mismatched_sizes": ignore_mismatched_sizes, **keywords}
        sizes = None if source is None else _asked_sizes(cls, source, config, keywords)
        if sizes is not None and not ignore_mismatched_sizes:
            if cls._positions_are_learned:
                sizes.refuse_another_order()
            sizes = None  # transformers compares the shapes
        if sizes is not None:
            image = sizes.image_of_stored_grid() if cls._positions_are_learned else sizes.image
            if isinstance(config, PreTrainedConfig):
                config = copy.deepcopy(config)
                vars(config)["image_size"] = image
            else:
                options.update(image_size=image, patch_size=sizes.patch)
        load = cast(Any, super()).from_pretrained
        model, loading = load(source, *arguments, config=config, output_loading_info=True, **options)
        loading["resized"] = [] if sizes is None else sizes.finish(model, loading, str(source))
        if output_loading_info:
            return model, loading
        for line in loading["resized"]:
            logger.warning(line)
        return model


class _Sizes:
    """The sizes of saved weights, and those that a model is to have.

    Args:
        stored: the configuration of the weights. asked: that of the model, with the weights' sizes or others.
        keywords: of `from_pretrained`, which go before it.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(self, stored: CrateImageConfig, asked: CrateImageConfig, keywords: Mapping[str, object]):
        self.stored = stored
        self.image = cast(Size, keywords.get("image_size", asked.image_size))
        self.patch = cast(Size, keywords.get("patch_size", asked.patch_size))
        self.patch_differs = as_pair(self.patch) != as_pair(stored.patch_size)
        self.differ = self.patch_differs or as_pair(self.image) != as_pair(stored.image_size)
        config = copy.deepcopy(asked)
        config.image_size, config.patch_size = self.image, self.patch
        if self.differ:
            config.validate_architecture()
        self.grid = config.patch_grid

    def refuse_another_order(self) -> None:
        """Refuse a grid of as many patches in other rows: the shapes fit, and positions would be of other places.

        Raises:
            ValueError: with both grids.
        """
        if self.grid != self.stored.patch_grid and math.prod(self.grid) == self.stored.num_patches:
            raise UserError(
                f"the positions are of {_by(self.stored.patch_grid)} patches, image_size {self.image} has "
                f"{_by(self.grid)}: pass ignore_mismatched_sizes=True to resample them"
            )

    def image_of_stored_grid(self) -> tuple[int, int]:
        """Pixels of the image that has as many patches as the weights have positions."""
        rows, columns = self.stored.patch_grid
        height, width = as_pair(self.patch)
        return rows * height, columns * width

    def finish(self, model: "ResizesImages", loading: dict[str, Any], source: str) -> list[str]:
        """Bring a loaded model to the sizes asked for; a line for each thing that is done.

        Args:
            loading: transformers' account, from which what is explained here is taken out.
        """
        lines, backbone = [], cast(Any, model.base_model)
        before, after = _by(self.stored.patch_grid), _by(self.grid)
        if model._positions_are_learned:
            backbone.set_image_size(self.image)
        if model._positions_are_learned and before != after:
            lines.append(f"positions of {source} resampled from {before} to {after} patches")
        elif hasattr(backbone.embeddings, "position_embeddings") and before != after:
            lines.append(f"the positions are the sine-cosine table of {after} patches, {source} is of {before}")
        if self.patch_differs:
            _renew_patch_embeddings(model)
            for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
                loading[kind] = [one for one in loading[kind] if not _is_of_patches(one)]
            sizes = f"{_by(as_pair(self.patch))} pixels, {_by(as_pair(self.stored.patch_size))} in {source}"
            lines.append(f"the patch embedding is drawn anew: patches are of {sizes}")
        return lines


def _asked_sizes(
    kind: type[ResizesImages], source: str | PathLike[str], config: object, keywords: Mapping[str, object]
) -> _Sizes | None:
    """The sizes to which the weights at `source` are brought; None where they have them, or have no configuration."""
    of_hub: dict[str, Any] = {name: keywords[name] for name in _OF_HUB if name in keywords}
    try:
        stored = cast(Any, kind.config_class).from_pretrained(source, **of_hub)
    except OSError:  # an adapter alone: transformers knows where its model is
        return None
    sizes = _Sizes(stored, config if isinstance(config, CrateImageConfig) else stored, keywords)
    return sizes if sizes.differ else None


def _is_of_patches(entry: str | tuple[str, object, object]) -> bool:
    name = entry if isinstance(entry, str) else entry[0]
    return f".{_PATCHES}." in f".{name}"


def _renew_patch_embeddings(model: ResizesImages) -> None:
    """Draw all of it, also what has the shape of before: the parts of one projection belong together."""
    embeddings = cast(Any, model.base_model).embeddings
    old: nn.Module = embeddings.patch_embeddings
    new = type(old)(model.config)
    for module in new.modules():
        model._init_weights(module)
    parameter = next(old.parameters())
    embeddings.patch_embeddings = new.to(parameter.device, parameter.dtype).train(old.training)


__all__ = ["ResizesImages", "with_sizes_of"]
