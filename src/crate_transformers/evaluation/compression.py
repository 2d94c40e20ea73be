"""Measures of language models as compressors: bits per byte of the text, and those of `xz -9` on the same bytes."""

import lzma
import math

from ..data.text import TextPart
from ..data.text.tokens import TokenFile

_XZ_LIMIT = 64 << 20  # bytes of a part that are compressed for comparison


def bits_per_byte(loss: float, tokens: TokenFile) -> float:
    """Turn a loss in nats a token into bits a byte of the text that the tokens encode."""
    return loss / math.log(2) / tokens.bytes_per_token


def text_metrics(loss: float, tokens: TokenFile, is_causal: bool) -> dict[str, float]:
    """The perplexity and the bits per byte that a mean loss in nats a token amounts to."""
    name = "bits_per_byte" if is_causal else "masked_bits_per_byte"
    return {"perplexity": math.exp(min(loss, 700.0)), name: bits_per_byte(loss, tokens)}


def xz_bits_per_byte(part: TextPart) -> float:
    """Bits per byte of `xz -9` on a part, of which at most the first 64 MiB are compressed."""
    compressor = lzma.LZMACompressor(preset=9)
    size = written = 0
    for piece in part.pieces():
        raw = piece.encode("utf-8")[: _XZ_LIMIT - size]
        size += len(raw)
        written += len(compressor.compress(raw))
        if size >= _XZ_LIMIT:
            break
    return 8 * (written + len(compressor.flush())) / max(size, 1)


__all__ = ["bits_per_byte", "text_metrics", "xz_bits_per_byte"]
