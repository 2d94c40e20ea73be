"""transformers' pipelines on saved text models, with a tokenizer made on the spot; how the package registers itself."""

import subprocess
import sys

import pytest
import torch
from tiny import build, decoder_config, encoder_config
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerFast, pipeline

from crate_transformers import (
    CrateForCausalLM,
    CrateForMaskedLM,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
)

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WORDS = ["tokens", "are", "compressed", "and", "then", "made", "sparse", "what", "is", "?"]


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **dict(zip(names, SPECIAL, strict=True)))


@pytest.fixture
def folder(tokenizer, tmp_path):
    def save(model_class, config):
        build(model_class, config).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return str(tmp_path)

    return save


def test_fill_mask(folder, tokenizer):
    config = encoder_config(vocab_size=len(tokenizer))
    answers = pipeline("fill-mask", model=folder(CrateForMaskedLM, config))("tokens are <mask>", top_k=3)
    assert len(answers) == 3
    assert all(answer["sequence"].startswith("tokens are") for answer in answers)


def test_text_generation(folder, tokenizer):
    config = decoder_config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=2, pad_token_id=1)
    generator = pipeline("text-generation", model=folder(CrateForCausalLM, config), batch_size=2)
    answers = generator(["tokens are", "what is"], max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert [
        answer[0]["generated_text"].startswith(start) for answer, start in zip(answers, ["tokens", "what"], strict=True)
    ]


def test_text_classification(folder, tokenizer):
    config = encoder_config(vocab_size=len(tokenizer), id2label={0: "dense", 1: "sparse"})
    classify = pipeline("text-classification", model=folder(CrateForSequenceClassification, config))
    scores = classify("tokens are made sparse", top_k=None)
    assert {score["label"] for score in scores} == {"dense", "sparse"}
    assert sum(score["score"] for score in scores) == pytest.approx(1, abs=1e-4)


def test_token_classification(folder, tokenizer):
    config = encoder_config(vocab_size=len(tokenizer), num_labels=3)
    entities = pipeline("token-classification", model=folder(CrateForTokenClassification, config))("what is sparse ?")
    assert [entity["word"] for entity in entities] == ["what", "is", "sparse", "?"]


def test_question_answering(folder, tokenizer):
    # newer versions of transformers have no such pipeline: the span is read by hand
    path = folder(CrateForQuestionAnswering, encoder_config(vocab_size=len(tokenizer)))
    model = AutoModelForQuestionAnswering.from_pretrained(path)
    inputs = tokenizer("what is sparse ?", "tokens are compressed and made sparse", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    assert outputs.start_logits.shape == outputs.end_logits.shape == inputs["input_ids"].shape
    assert outputs.start_logits.unique().numel() > 1


def test_any_room_may_be_imported_first():
    code = """
from crate_transformers.layers import CrateLayer
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("crate", vocab_size=7, hidden_size=6, num_hidden_layers=1, num_attention_heads=2)
print(type(AutoModel.from_config(config)).__name__)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["CrateModel"], done.stderr
