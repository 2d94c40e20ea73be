"""Inputs as streams: sizes, names, limits, and that they may be gone through again."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from zoo import IMAGE, build, vision_config

from crate_transformers import CrateForImageClassification
from crate_transformers.evaluation.inputs import image_inputs, read_text, tensor_inputs, text_inputs


class Words:
    """A model's configuration and a tokenizer in one: a word is a token."""

    def __init__(self, context):
        self.config = type("Config", (), {"max_position_embeddings": context})


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(30)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0")


def sizes(inputs, name):
    return [tuple(batch[name].shape) for batch in inputs.batches]


def test_images_of_a_folder_and_of_a_source(tmp_path):
    model = build(CrateForImageClassification, vision_config())
    (tmp_path / "pictures").mkdir()
    for i in range(5):
        Image.fromarray(np.full((11, 13, 3), 40 * i, dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    model.save_pretrained(tmp_path / "model")
    inputs = image_inputs(model, tmp_path / "model", str(tmp_path / "pictures"), limit=3, batch_size=2)
    assert (inputs.name, inputs.count) == ("pictures", 3)
    assert sizes(inputs, "pixel_values") == sizes(inputs, "pixel_values") == [(2, 3, *IMAGE), (1, 3, *IMAGE)]
    mean, std = inputs.normalisation
    first = next(iter(inputs.batches))["pixel_values"][1] * torch.tensor(std)[:, None, None]
    assert torch.allclose(first + torch.tensor(mean)[:, None, None], torch.tensor(40 / 255), atol=1e-5)
    digits = image_inputs(model, tmp_path / "model", "digits", "validation", limit=2)
    assert (digits.name, digits.count) == ("digits (validation)", 2)
    for arguments, message in (
        (("digits", "all"), "--split"),
        (("digits", "test", 0), "--limit"),
        (("nowhere",), "nowhere"),
    ):
        with pytest.raises(ValueError, match=message):
            image_inputs(model, tmp_path / "model", *arguments)


def test_tensors_of_a_file(tmp_path):
    save_file({"input_ids": torch.ones(5, 7, dtype=torch.long), "other": torch.ones(2)}, tmp_path / "a.safetensors")
    inputs = tensor_inputs(str(tmp_path / "a.safetensors"), 3)
    assert (set(inputs.batches), inputs.name, inputs.count) == ({"input_ids"}, "a.safetensors", 3)
    save_file({"other": torch.ones(2)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="no tensor named like an input"):
        tensor_inputs(str(tmp_path / "b.safetensors"))


def test_text_in_stretches_of_a_context(tokenizer):
    text = " ".join(f"w{i}" for i in range(1, 24))
    inputs = text_inputs(Words(5), tokenizer, text, batch_size=3)
    assert (inputs.name, inputs.count) == ("the given text", 5)
    assert sizes(inputs, "input_ids") == sizes(inputs, "input_ids") == [(3, 5), (1, 5), (1, 3)]
    assert torch.cat([batch["input_ids"].flatten() for batch in inputs.batches]).tolist() == list(range(1, 24))
    assert text_inputs(Words(None), tokenizer, text, length=7).count == 4
    assert sizes(text_inputs(Words(5), tokenizer, text, limit=1), "input_ids") == [(1, 5)]


def test_words_or_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("in a file", encoding="utf-8-sig")
    assert read_text(str(tmp_path / "a.txt")) == ("a.txt", "in a file")
    assert read_text("~ " + "words " * 100)[0] == "the given text"
    (tmp_path / "b.txt").write_bytes(b"\xe9t\xe9")
    for text, message in ((" \n", "no text"), (str(tmp_path / "b.txt"), "not UTF-8")):
        with pytest.raises(ValueError, match=message):
            read_text(text)
