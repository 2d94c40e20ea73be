"""The published sizes of CRATE, one table for every family.

Source: arXiv 2306.01129, Table 1 (tiny, small, base, large); the text models are of size base.
"""

from typing import Any

from ..errors import UserError

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12},
    "small": {"hidden_size": 576, "num_attention_heads": 12, "num_hidden_layers": 12},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
}

# arXiv 2412.17810; the constructors of the public image code, and the sizes of the public language code
TOST_VISION_SIZES: dict[str, dict[str, int | float]] = {
    name: {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers, "layer_scale": scale}
    for names, width, heads, layers, scale in (
        (("tiny", "tiny-12"), 192, 4, 12, 1.0),
        (("small", "small-12"), 384, 8, 12, 1.0),
        (("tiny-24",), 192, 4, 24, 1e-5),
        (("small-24",), 384, 8, 24, 1e-5),
        (("medium", "medium-24"), 512, 8, 24, 1e-5),
        (("large", "large-24"), 768, 16, 24, 1e-5),
    )
    for name in names
}
TOST_SIZES: dict[str, dict[str, int]] = {
    "base": {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 12},
    "medium": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
    "large": {"hidden_size": 1280, "num_attention_heads": 20, "num_hidden_layers": 36},
}


# CRATE-alpha: what its models have in common; arXiv 2405.20299, and the layouts of its files
ALPHA_FIELDS: dict[str, Any] = {
    "patch_embedding": "convolution",
    "attention_output_bias": False,
    "block_layer_norm_eps": 1e-6,
    "layer_norm_eps": 1e-5,
    "dictionary_ratio": 4,
    "ista_steps": 2,
    "tie_dictionary": False,
    "ista_residual": True,
    "initialization": "flax",
}
_CBT_FIELDS: dict[str, Any] = {"compression": "cbsa", "patch_embedding": "conv_stem", "interpolate_offset": 0.1}


def _sizes(**rows: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers")
    return {name: dict(zip(names, row, strict=True)) for name, row in rows.items()}


# prefix of a name -> (sizes, fields that all of them have): "alpha-base", "cbt-small"
SIZE_FAMILIES: dict[str, tuple[dict[str, dict[str, int]], dict[str, Any]]] = {
    "": (SIZES, {}),
    "alpha": (
        _sizes(tiny=(192, 3, 12), small=(576, 12, 12), base=(768, 12, 12), large=(1024, 16, 24), huge=(1280, 16, 32)),
        ALPHA_FIELDS,
    ),
    "cbt": (  # arXiv 2509.16875
        _sizes(tiny=(192, 3, 12), small=(384, 6, 12), base=(768, 12, 12), large=(1024, 16, 24)),
        _CBT_FIELDS,
    ),
}


def names_of_sizes(*prefixes: str) -> tuple[str, ...]:
    """The names of the sizes of families, with their prefixes."""
    return tuple(f"{prefix}-{name}".removeprefix("-") for prefix in prefixes for name in SIZE_FAMILIES[prefix][0])


def size_fields(size: str, prefixes: tuple[str, ...] = ("",)) -> dict[str, Any]:
    """Config fields of a published size.

    Args:
        size: a name of SIZES, or one with the prefix of a family before it. prefixes: the families that there are.

    Raises:
        ValueError: a name that is not in the table.
    """
    prefix, _, name = size.rpartition("-")
    sizes, fields = SIZE_FAMILIES.get(prefix, ({}, {}))
    if prefix not in prefixes or name not in sizes:
        raise UserError(f"unknown size {size!r}: expected one of {', '.join(names_of_sizes(*prefixes))}")
    return {**sizes[name], **fields}


def heads_of_width(hidden_size: int, prefix: str = "") -> int | None:
    """Number of heads that a family's table gives a width, or None where the width is not in the table."""
    for fields in SIZE_FAMILIES[prefix][0].values():
        if fields["hidden_size"] == hidden_size:
            return fields["num_attention_heads"]
    return None


__all__ = [
    "ALPHA_FIELDS",
    "SIZES",
    "SIZE_FAMILIES",
    "TOST_SIZES",
    "TOST_VISION_SIZES",
    "heads_of_width",
    "names_of_sizes",
    "size_fields",
]
