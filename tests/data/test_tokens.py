"""The file of tokens is whole, or made anew; it is found by all that its tokens depend on."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import normalizers

from crate_transformers.data.text.parts import TextPart
from crate_transformers.data.text.tokens import pack_tokens, train_tokenizer
from crate_transformers.errors import UserError

PART = TextPart.of(["The cat sat on the mat. "] * 40)


@pytest.fixture
def tokenizer():
    return train_tokenizer(PART, 300, is_decoder=True, model_max_length=64)


def test_tokenizers_of_one_vocabulary_have_files_of_their_own(tokenizer, tmp_path):
    first = pack_tokens(PART, tokenizer, tmp_path, {"part": "train"})
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    second = pack_tokens(PART, tokenizer, tmp_path, {"part": "train"})
    assert first.path != second.path
    assert not np.array_equal(first.open(), second.open())


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-5])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")


@pytest.mark.parametrize(("suffix", "damage"), [
    (".bin", cut_off), (".bin", lengthen), (".bin", lambda path: path.unlink()),
    (".json", cut_off), (".json", lambda path: path.write_text("{}")), (".json", lambda path: path.unlink()),
])  # fmt: skip
def test_a_damaged_file_is_made_anew(tokenizer, tmp_path, suffix, damage):
    tokens = pack_tokens(PART, tokenizer, tmp_path, {})
    whole = tokens.open().tolist()
    damage(tokens.path.with_suffix(suffix))
    again = pack_tokens(PART, tokenizer, tmp_path, {})
    assert (again.path, again.num_bytes, again.open().tolist()) == (tokens.path, tokens.num_bytes, whole)
    assert json.loads(tokens.path.with_suffix(".json").read_text())["tokens"] == len(whole)


def test_many_may_write_one_file(tokenizer, tmp_path):
    whole = pack_tokens(PART, tokenizer, tmp_path / "alone", {}).open().tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: pack_tokens(PART, tokenizer, tmp_path / "shared", {}).open().tolist(), range(8))
        )
    assert found == [whole] * 8
    assert sorted(path.suffix for path in (tmp_path / "shared").iterdir()) == [".bin", ".json"]


def test_an_error_leaves_nothing_behind(tokenizer, tmp_path):
    def documents():
        yield lambda: iter(["good text"])
        raise UserError("bad text")

    with pytest.raises(UserError, match="bad text"):
        pack_tokens(TextPart(documents), tokenizer, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_needs_text():
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(TextPart.of([]), 300, is_decoder=True, model_max_length=64)
