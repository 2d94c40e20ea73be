"""What spells a special token is text, and a reader is known from every other that makes other tokens."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from crate_transformers.data.text.labelled import align_tags
from crate_transformers.data.text.parts import TextPart
from crate_transformers.data.text.reading import as_text, fingerprint
from crate_transformers.data.text.tokens import PackedStream, pack_tokens, train_tokenizer

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
TEXT = "x <s>y</s> <mask><|endoftext|>z <pad> a</s>b  <unk> [MASK] the cat\n"
PART = TextPart.of([TEXT] * 3)


def fast(model, trainer, pre_tokenizer, decoder=None):
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        backend.decoder = decoder
    trainer.show_progress = False
    backend.train_from_iterator([TEXT] * 50, trainer)
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def unigram():
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=SPECIALS, unk_token="<unk>")
    return fast(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())


def words():
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIALS)
    return fast(models.WordLevel(unk_token="<unk>"), trainer, pre_tokenizers.WhitespaceSplit())


class SlowWords(PreTrainedTokenizer):
    """Words between spaces, special ones among them."""

    def __init__(self, **options):
        self.words = [*SPECIALS, "the", "cat", "x", "z"]
        super().__init__(unk_token="<unk>", mask_token="<mask>", eos_token="</s>", pad_token="<pad>", **options)

    vocab_size = property(lambda self: len(self.words))

    def get_vocab(self):
        return {word: place for place, word in enumerate(self.words)}

    def _tokenize(self, text, **options):
        return text.split()

    def _convert_token_to_id(self, token):
        return self.get_vocab().get(token, 3)

    def save_vocabulary(self, save_directory, filename_prefix=None):
        path = Path(save_directory) / "words.json"
        path.write_text(json.dumps(self.words))
        return (str(path),)


TOKENIZERS = {
    "decoder": lambda: train_tokenizer(PART, 300, is_decoder=True, model_max_length=64),
    "encoder": lambda: train_tokenizer(PART, 300, is_decoder=False, model_max_length=64),
    "unigram": unigram,
    "words": words,
    "bytes": ByT5Tokenizer,
    "slow words": SlowWords,
}
LOSSLESS = ("decoder", "encoder", "unigram", "bytes")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_that_spells_special_tokens_stays_text(name, tmp_path):
    tokenizer = TOKENIZERS[name]()
    tokens = pack_tokens(PART, tokenizer, tmp_path, {})
    ids = tokens.open().tolist()
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert [token for token in ids if token in special] == [tokenizer.eos_token_id] * 3  # an end for each document
    assert tokens.num_bytes == 3 * len(TEXT.encode())
    if name in LOSSLESS:
        assert tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)]) == TEXT
    assert [token for item in PackedStream(PART, tokenizer, 2) for token in item["input_ids"][:1]] == ids[:-1]
    marked = tokenizer(f"x {tokenizer.eos_token}", add_special_tokens=False)["input_ids"]
    assert marked[-1] == tokenizer.eos_token_id  # the tokenizer itself is as it was


@pytest.mark.parametrize("name", ["decoder", "encoder", "unigram", "bytes"])
def test_a_saved_tokenizer_reads_as_before(name, tmp_path):
    tokenizer = TOKENIZERS[name]()
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    first, second = (pack_tokens(PART, one, tmp_path, {}).open() for one in (tokenizer, loaded))
    assert np.array_equal(first, second)


def test_special_tokens_in_the_text_are_learnt_as_text():
    plain, spelled = (TextPart.of([text] * 20) for text in ("a cat sat", "a <mask> sat"))
    assert "mask" in train_tokenizer(spelled, 270, is_decoder=False, model_max_length=64).get_vocab()
    assert "mask" not in train_tokenizer(plain, 270, is_decoder=False, model_max_length=64).get_vocab()


def test_tags_of_words_that_spell_special_tokens():
    tokenizer = TOKENIZERS["encoder"]()
    encoded = align_tags(tokenizer, ["<mask>", "cat"], [7, 8], 20)
    assert encoded["input_ids"].count(tokenizer.mask_token_id) == 0
    assert [label for label in encoded["labels"] if label != -100] == [7, 8]


def changed(tokenizer, change):
    other = copy.deepcopy(tokenizer)
    change(other)
    return other


def with_backend(tokenizer, change):
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    change(content)
    other = copy.deepcopy(tokenizer)
    other._tokenizer = Tokenizer.from_str(json.dumps(content))
    return other


def test_whatever_changes_tokens_changes_the_fingerprint():
    tokenizer = TOKENIZERS["encoder"]()
    others = {
        "merges": with_backend(tokenizer, lambda content: content["model"]["merges"].pop()),
        "normalizer": changed(tokenizer, lambda t: setattr(t.backend_tokenizer, "normalizer", normalizers.Lowercase())),
        "pre-tokenizer": changed(
            tokenizer,
            lambda t: setattr(t.backend_tokenizer, "pre_tokenizer", pre_tokenizers.ByteLevel(use_regex=False)),
        ),
        "added": changed(tokenizer, lambda t: t.add_tokens([AddedToken("the cat")])),
        "end": changed(tokenizer, lambda t: setattr(t, "eos_token", "<s>")),
        "itself": tokenizer,
    }
    assert others["merges"].get_vocab() == others["normalizer"].get_vocab() == tokenizer.get_vocab()
    assert len({fingerprint(as_text(other)) for other in others.values()}) == len(others)
    assert fingerprint(tokenizer) != fingerprint(as_text(tokenizer))  # which keeps special tokens apart from text


@pytest.mark.parametrize("name", ["encoder", "bytes", "slow words"])
def test_using_a_tokenizer_changes_nothing(name):
    tokenizer = TOKENIZERS[name]()
    before = fingerprint(as_text(tokenizer))
    tokenizer(["the cat", "x"], truncation=True, padding=True, max_length=2)
    assert fingerprint(as_text(tokenizer)) == before


def test_the_words_of_a_slow_tokenizer_count():
    other = SlowWords()
    other.words[-1] = "dog"
    assert fingerprint(as_text(other)) != fingerprint(as_text(SlowWords()))
