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


__all__ = ["SIZES", "heads_of_width", "size_fields"]
