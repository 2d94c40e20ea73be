"""A ViT or ViT-MAE of transformers at another image or patch size than its weights, as resizing.py does for our models.

    ViT       P' = resample(P, grid of the weights -> grid of the model)
    ViT-MAE   both tables are sines and cosines: those of the new grid

A patch of another size needs other weights: the patch embedding, and the autoencoder's last map, are drawn anew.
"""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ..configuration.validation import as_pair, check_patches
from ..errors import UserError
from ..layers.embeddings.positions import resample_positions
from .resizing import with_sizes_of

_POSITIONS = ("position_embeddings", "decoder_pos_embed")
_OF_PATCHES = ("patch_embeddings.projection.weight", "decoder_pred.weight", "decoder_pred.bias")
BASELINES = ("vit", "vit_mae")

Loaded = tuple[PreTrainedModel, dict[str, Any]]


def _grid(config: Any) -> tuple[int, int]:
    (height, width), (row, column) = as_pair(config.image_size), as_pair(config.patch_size)
    return height // row, width // column


def sizes_differ(config: Any, stored: Any) -> bool:
    """Whether a baseline's configuration asks for another image or patch size than its weights have."""
    names = ("image_size", "patch_size")
    return stored.model_type in BASELINES and any(
        as_pair(getattr(config, name)) != as_pair(getattr(stored, name)) for name in names
    )


def load_resized(
    load: Callable[[PreTrainedConfig], Loaded], config: PreTrainedConfig, stored: PreTrainedConfig, source: str
) -> Loaded:
    """A baseline with saved weights at the sizes of `config`.

    Args:
        load: from a configuration with the sizes of the weights to a model, and transformers' account of it.
        stored: the configuration of the weights. source: their name, for what is said.

    Returns:
        (model, loading); loading has a line for each thing that was done under "resized", as our own models have.

    Raises:
        UserError: an image that patches do not divide, or a ViT-MAE whose patches make no square.
    """
    check_patches(config)
    before, after = _grid(stored), _grid(config)
    if config.model_type == "vit_mae" and after[0] != after[1]:
        raise UserError(f"transformers' vit_mae has positions for square grids alone, got {after[0]} x {after[1]}")
    saved, loading = load(with_sizes_of(config, stored))
    # a new model of the sizes asked for has what belongs to them: the shape of its parts, tables, sizes in modules
    model = type(saved)._from_config(config, dtype=saved.dtype, attn_implementation=saved.config._attn_implementation)
    values = model.state_dict()
    renewed = as_pair(config.patch_size) != as_pair(stored.patch_size)
    for name, tensor in saved.state_dict().items():
        if config.model_type == "vit" and name.endswith(_POSITIONS[0]):
            tensor = resample_positions(tensor, before, after)
        elif name.endswith(_POSITIONS) or (renewed and name.endswith(_OF_PATCHES)):
            continue
        values[name] = tensor
    model.load_state_dict(values)
    sides = f"from {before[0]} x {before[1]} to {after[0]} x {after[1]} patches"
    lines = []
    if before != after and config.model_type == "vit":
        lines.append(f"positions of {source} resampled {sides}")
    elif before != after:
        lines.append(f"the positions are the sine-cosine tables of the new grid: {source} {sides}")
    if renewed:
        (height, width), (row, column) = as_pair(config.patch_size), as_pair(stored.patch_size)
        sizes = f"{height} x {width} pixels, {row} x {column} in {source}"
        lines.append(f"the patch embedding is drawn anew: patches are of {sizes}")
    return model, {**loading, "resized": lines}


__all__ = ["BASELINES", "load_resized", "sizes_differ"]
