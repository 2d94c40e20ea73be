"""The blocks of a layer by name: what compresses, what sparsifies. One line a block; the classes load when asked.

A line holds where the class is, and what the block cannot do: a function of the configuration that gives the reason,
or None where all is well. `layers/compression/block.py` and `layers/sparsification/block.py` say what such a class
answers for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from .._lazy import load_by_name
from ..errors import UserError


def _fits_all(config: PreTrainedConfig) -> str | None:
    return None


@dataclass(frozen=True)
class Block:
    """A block of a layer.

    Attributes:
        place: "module:Class".
        limit: why a configuration asks what the block cannot do; None where it does not.
        causal: whether a compression has a causal form, in which a token sees itself and earlier ones alone.
    """

    place: str
    limit: Callable[[PreTrainedConfig], str | None] = _fits_all
    causal: bool = False

    def load(self) -> Any:
        """The class."""
        return load_by_name(self.place)


def _limit_of_cbsa(config: PreTrainedConfig) -> str | None:
    """CBSA pools a square grid of patches to representatives."""
    if not hasattr(config, "patch_grid"):
        return "it pools a grid of patches to representatives, and text has none: set mssa, tssa or mhsa"
    rows, columns = config.patch_grid
    if rows != columns:
        return f"it pools a square grid, and these images make {rows} x {columns} patches: set a square image_size"
    pooled = config.representatives
    if len(pooled) != 2 or not all(isinstance(side, int) and side >= 1 for side in pooled):
        return f"representatives must be (rows, columns) of a grid, got {pooled!r}"
    published = (8, 8)  # the published code pools smaller grids to 8 x 8 too: cells repeat
    if max(pooled) > rows and tuple(pooled) != published:
        return f"representatives {tuple(pooled)} are more than the {rows} x {columns} patches: set fewer"
    return None


_LAYERS = "crate_transformers.layers"
COMPRESSIONS: dict[str, Block] = {
    "mssa": Block(f"{_LAYERS}.compression.mssa:SubspaceAttention", causal=True),
    "tssa": Block(f"{_LAYERS}.compression.tssa:TokenStatisticsAttention", causal=True),
    "cbsa": Block(f"{_LAYERS}.compression.cbsa:ContractBroadcastAttention", _limit_of_cbsa),
    "mhsa": Block(f"{_LAYERS}.compression.mhsa:MultiHeadAttention", causal=True),
}
SPARSIFICATIONS: dict[str, Block] = {
    "ista": Block(f"{_LAYERS}.sparsification.ista:Sparsification"),
    "mlp": Block(f"{_LAYERS}.sparsification.mlp:FeedForward"),
    "none": Block(f"{_LAYERS}.sparsification.none:NoSparsification"),
}


def name_of_layer(names: str | list[str] | tuple[str, ...], layer_idx: int) -> str:
    """The name of the block of a layer, of one name for all or one a layer.

    Raises:
        UserError: there are fewer names than layers.
    """
    if isinstance(names, str):
        return names
    if layer_idx >= len(names):
        raise UserError(f"{len(names)} blocks are named, the model has more layers: name one block a layer, or one")
    return names[layer_idx]


def names_of_layers(names: str | list[str] | tuple[str, ...], num_layers: int) -> tuple[str, ...]:
    """The names of the blocks of all layers."""
    return tuple(name_of_layer(names, layer) for layer in range(num_layers))


def check_blocks(config: PreTrainedConfig) -> None:
    """Refuse blocks that are not there, that are not as many as layers, or that cannot do what is asked.

    Raises:
        UserError: with the reason.
    """
    for field, table in (("compression", COMPRESSIONS), ("sparsification", SPARSIFICATIONS)):
        named = getattr(config, field)
        names = (named,) if isinstance(named, str) else tuple(named)
        if not isinstance(named, str) and len(names) != config.num_hidden_layers:
            raise UserError(f"{field} names {len(names)} blocks, the model has {config.num_hidden_layers} layers")
        for name in dict.fromkeys(names):
            if name not in table:
                raise UserError(f"{field} must be one of {', '.join(table)}, got {name!r}")
            reason = table[name].limit(config)
            if field == "compression" and getattr(config, "is_decoder", False) and not table[name].causal:
                causal = ", ".join(other for other in table if table[other].causal)
                reason = f"it has no causal form, which a decoder needs: set one of {causal}"
            if reason is not None:
                raise UserError(f"{field} {name!r}: {reason}")


__all__ = ["COMPRESSIONS", "SPARSIFICATIONS", "Block", "check_blocks", "name_of_layer", "names_of_layers"]
