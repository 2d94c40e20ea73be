"""The published sizes of CRATE, one table for every family.

Source: arXiv 2306.01129, Table 1 (tiny, small, base, large); the text models are of size base.
"""

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


def size_fields(size: str) -> dict[str, int]:
    """Config fields of a published size.

    Raises:
        ValueError: a name that is not in the table.
    """
    if size not in SIZES:
        raise UserError(f"unknown size {size!r}: expected one of {', '.join(SIZES)}")
    return dict(SIZES[size])


def heads_of_width(hidden_size: int) -> int | None:
    """Number of heads that the table gives a width, or None where the width is not in the table."""
    for fields in SIZES.values():
        if fields["hidden_size"] == hidden_size:
            return fields["num_attention_heads"]
    return None


__all__ = ["SIZES", "TOST_SIZES", "TOST_VISION_SIZES", "heads_of_width", "size_fields"]
