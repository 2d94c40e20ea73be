"""Losses as bits a byte, in closed form."""

import math
from types import SimpleNamespace

import pytest

from crate_transformers.data.text.parts import TextPart
from crate_transformers.evaluation.compression import bits_per_byte, text_metrics, xz_bits_per_byte

TOKENS = SimpleNamespace(bytes_per_token=3.5)


def test_nats_a_token_are_bits_a_byte():
    assert bits_per_byte(7 * math.log(2), TOKENS) == pytest.approx(2)
    assert text_metrics(math.log(11), TOKENS, is_causal=True) == pytest.approx(
        {"perplexity": 11, "bits_per_byte": math.log2(11) / 3.5}
    )
    assert "masked_bits_per_byte" in text_metrics(1.0, TOKENS, is_causal=False)
    assert math.isfinite(text_metrics(10_000.0, TOKENS, is_causal=True)["perplexity"])


def test_what_repeats_takes_fewer_bits():
    text = "a cat sat on the mat, " * 500
    assert xz_bits_per_byte(TextPart.of([text])) < 0.2 < 8 < xz_bits_per_byte(TextPart.of(["x"]))
