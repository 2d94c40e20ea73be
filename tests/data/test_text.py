"""Text is read in pieces, packed without loss, masked by key."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from crate_transformers.data.text import load_text_source
from crate_transformers.data.text.masking import MaskingCollator
from crate_transformers.data.text.tokens import PackedStream, PackedTokens, pack_tokens, train_tokenizer


def test_file_parts_put_together_are_the_file(tmp_path):
    text = "".join(f"line {i} → naïve 日本\n" for i in range(40_000))  # more than one piece, borders inside characters
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    splits = load_text_source(f"text:{tmp_path / 'a.txt'}", 0.1, 0.1)
    assert splits.train.read() + splits.validation.read() + splits.test.read() == text
    assert 0.09 < len(splits.test.read()) / len(text) < 0.11


def test_one_endless_line_comes_in_pieces(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * (5 << 20))
    sizes = [len(piece) for piece in load_text_source(f"text:{tmp_path / 'a.txt'}").train.pieces()]
    assert max(sizes) <= 1 << 16  # bounded memory: see _PIECE
    assert sum(sizes) == round((5 << 20) * 0.9)


def test_bad_bytes_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good " * 1000 + b"\xff" + b" good" * 1000)
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8: byte 0xff at offset 5000"):
        load_text_source(f"text:{tmp_path / 'a.txt'}").train.read()


def test_bad_sources(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    for source, words in (
        (f"text:{tmp_path / 'empty.txt'}", "empty"),
        (f"text:{tmp_path / 'none.txt'}", "no text file"),
        ("txt:x", "did you mean text"),
        ("wikitxt:x", "did you mean wikitext"),
        ("wikitext:x", "for `crate evaluate` alone"),
        ("text:", "needs a name"),
        (f"csv:{tmp_path / 'two.csv'}", "data.text_column"),
    ):
        with pytest.raises(ValueError, match=words):
            load_text_source(source)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    splits = load_text_source("python-reference", seed=1)
    tokenizer = train_tokenizer(splits.test, 400, is_decoder=False, model_max_length=64)
    return splits.test, tokenizer, tmp_path_factory.mktemp("tokens")


def test_every_token_but_the_first_is_predicted_once(corpus):
    part, tokenizer, folder = corpus
    tokens = pack_tokens(part, tokenizer, folder, {"part": "test"})
    chunks = PackedTokens(tokens, 13)
    predicted = torch.cat([chunks[i]["input_ids"][1:] for i in range(len(chunks))]).numpy()
    assert np.array_equal(predicted, tokens.open()[1 : len(predicted) + 1])
    assert tokens.num_tokens - 1 - len(predicted) < 12
    assert tokens.num_bytes == len(part.read().encode())


def test_the_tokenizer_loses_nothing(corpus):
    part, tokenizer, _ = corpus
    text = part.read()[:2000] + "日本 → \t\n  x"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_tokens_are_kept(corpus):
    part, tokenizer, folder = corpus
    first = pack_tokens(part, tokenizer, folder, {"part": "again"})
    before = first.path.stat().st_mtime_ns
    assert pack_tokens(part, tokenizer, folder, {"part": "again"}).path.stat().st_mtime_ns == before


def test_workers_of_a_stream_share_its_chunks(corpus):
    part, tokenizer, _ = corpus
    alone = [item["key"][1] for item in PackedStream(part, tokenizer, 64)]
    loader = DataLoader(PackedStream(part, tokenizer, 64), batch_size=None, num_workers=2)
    assert sorted(item["key"][1] for item in loader) == alone


def test_named_parts_without_a_test_file(tmp_path):
    (tmp_path / "train.txt").write_text("abcdefghij" * 10)
    (tmp_path / "val.txt").write_text("validation")
    splits = load_text_source(f"text:{tmp_path}", 0.1, 0.1)
    assert splits.validation.read() == "validation"
    assert (len(splits.train.read()), len(splits.test.read())) == (90, 10)


def text_files(folder, **texts):
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_text_source(f"text:{folder}", 0.1, 0.1)


def test_parts_are_known_by_their_names(tmp_path):
    splits = text_files(tmp_path, Training_DOT_TXT="aaa", dev_DOT_md="bbb", Test_Set_DOT_txt="ccc")
    assert [part.read() for part in (splits.train, splits.validation, splits.test)] == ["aaa", "bbb", "ccc"]
    splits = text_files(tmp_path / "folders", train__a_DOT_txt="a", train__b_DOT_txt="b", valid__c_DOT_txt="c" * 9)
    assert splits.train.read() + splits.test.read() == "ab"
    assert splits.validation.read() == "c" * 9


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.txt", "val.txt", "notes.md"), "notes.md for none"),
        (("train.txt", "val.txt", "dev.txt"), "which of them is the validation part"),
        (("train.txt", "val.txt", "test.csv"), "no text file for the test part, but test.csv"),
        (("val.txt", "test.txt"), "no training file"),
    ],
)
def test_files_of_no_part_are_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match=message):
        load_text_source(f"text:{tmp_path}")


def test_a_folder_of_other_names_is_one_text(tmp_path):
    splits = text_files(tmp_path, trainer_DOT_txt="a" * 50, valley_DOT_md="b" * 50, _DOT_hidden_DOT_txt="c")
    assert splits.train.read() + splits.validation.read() + splits.test.read() == "a" * 50 + "b" * 50
    assert splits.notes == ()
    assert "testing.txt too" in text_files(tmp_path, testing_DOT_txt="d" * 50).notes[0]


def test_a_byte_order_mark_is_no_text(tmp_path):
    marked = b"\xef\xbb\xbf" + b"abcdefghij" * 10
    splits = text_files(tmp_path, a_DOT_txt=marked, b_DOT_txt=marked)
    assert splits.train.read() + splits.validation.read() + splits.test.read() == "abcdefghij" * 20


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(tmp_path, encoding):
    splits = text_files(tmp_path, a_DOT_txt="some text".encode(encoding))
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8: it looks like UTF-16"):
        splits.train.read()


def test_a_file_that_vanishes_is_named(tmp_path):
    splits = text_files(tmp_path, a_DOT_txt="some text" * 9)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"a\.txt cannot be read: No such file"):
        splits.train.read()


def test_the_state_changes_with_the_files(tmp_path):
    before = text_files(tmp_path, a_DOT_txt="some text" * 9).state
    assert load_text_source(f"text:{tmp_path}").state == before
    assert text_files(tmp_path, a_DOT_txt="same size" * 9).state != before
    reference = load_text_source("python-reference")
    assert reference.state is None
    assert reference.test.digest() == load_text_source("python-reference").test.digest() != reference.train.digest()


def test_stream_equals_file(corpus):
    part, tokenizer, folder = corpus
    chunks = PackedTokens(pack_tokens(part, tokenizer, folder, {"part": "test"}), 11)
    for index, item in zip(range(20), PackedStream(part, tokenizer, 11), strict=False):
        assert torch.equal(item["input_ids"], chunks[index]["input_ids"])


def test_masking_is_a_function_of_the_key(corpus):
    part, tokenizer, folder = corpus
    chunks = PackedTokens(pack_tokens(part, tokenizer, folder, {"part": "test"}), 61)
    collate = MaskingCollator(tokenizer, 0.15, seed=3)
    items = [chunks[(2, index)] for index in range(40)]
    batch = collate(items)
    assert torch.equal(collate(items[5:6])["input_ids"][0], batch["input_ids"][5])
    assert not torch.equal(collate([chunks[(3, 5)]])["labels"][0], batch["labels"][5])
    chosen = batch["labels"] != -100
    assert 0.12 < chosen.float().mean() < 0.18
    masked = (batch["input_ids"] == tokenizer.mask_token_id) & chosen
    assert 0.7 < masked.sum() / chosen.sum() < 0.9
    with pytest.raises(ValueError, match="mask_probability"):
        MaskingCollator(tokenizer, 1.0, seed=0)
