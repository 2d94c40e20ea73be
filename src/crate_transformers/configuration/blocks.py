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
    """

    place: str
    limit: Callable[[PreTrainedConfig], str | None] = _fits_all

    def load(self) -> Any:
        """The class."""
        return load_by_name(self.place)


_LAYERS = "crate_transformers.layers"
COMPRESSIONS: dict[str, Block] = {
    "mssa": Block(f"{_LAYERS}.compression.mssa:SubspaceAttention"),
}
SPARSIFICATIONS: dict[str, Block] = {
    "ista": Block(f"{_LAYERS}.sparsification.ista:Sparsification"),
}


def name_of_layer(names: str | list[str] | tuple[str, ...], layer_idx: int) -> str:
    """The name of the block of a layer, of one name for all or one a layer."""
    return names if isinstance(names, str) else names[layer_idx]


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
            if reason is not None:
                raise UserError(f"{field} {name!r}: {reason}")


__all__ = ["COMPRESSIONS", "SPARSIFICATIONS", "Block", "check_blocks", "name_of_layer", "names_of_layers"]
