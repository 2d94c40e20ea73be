"""transformers' pipelines on saved text models, with a tokenizer made on the spot; how the package registers itself."""

import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, pipeline
from zoo import build, decoder_config, encoder_config

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


@pytest.fixture
def answering(folder, tokenizer):
    path = folder(CrateForQuestionAnswering, encoder_config(vocab_size=len(tokenizer)))
    return pipeline("question-answering", model=path)


QUESTION, CONTEXT = "what is sparse ?", " tokens are compressed and  made sparse "


def best_span(pipe, windows, longest):
    """(probability, start, end) of the best span by going through all of them, one after another."""
    found = {}
    for question, context, begin in windows:
        inputs = pipe.tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
        offsets, parts = inputs.pop("offset_mapping")[0].tolist(), inputs.sequence_ids()
        with torch.no_grad():
            outputs = pipe.model(**inputs)
        for first in range(len(parts)):
            for last in range(first, min(first + longest, len(parts))):
                if parts[first] == parts[last] == 1:
                    weight = (outputs.start_logits[0, first] + outputs.end_logits[0, last]).exp().item()
                    span = (begin + offsets[first][0], begin + offsets[last][1])
                    found[span] = found.get(span, 0) + weight
    span = max(found, key=found.get)
    return found[span] / sum(found.values()), *span


def test_question_answering(answering):
    score, start, end = best_span(answering, [(QUESTION, CONTEXT, 0)], longest=2)
    answer = answering(question=QUESTION, context=CONTEXT, max_answer_length=2)
    assert answer == {"score": pytest.approx(score, rel=1e-5), "start": start, "end": end, "answer": CONTEXT[start:end]}
    every = answering({"question": QUESTION, "context": CONTEXT}, top_k=100)
    assert len(every) == 6 * 7 / 2  # spans of six words
    assert sum(one["score"] for one in every) == pytest.approx(1, abs=1e-5)
    assert [one["score"] for one in every] == sorted((one["score"] for one in every), reverse=True)


def test_answers_out_of_contexts_that_need_several_windows(answering):
    # question and special tokens take 7 of 10: three words a window, of which one is shared
    windows = [(QUESTION, CONTEXT[:22], 0), (QUESTION, CONTEXT[12:32], 12), (QUESTION, CONTEXT[28:], 28)]
    score, start, end = best_span(answering, windows, longest=15)
    answer = answering(question=QUESTION, context=CONTEXT, max_seq_length=10, doc_stride=1)
    assert (answer["start"], answer["end"]) == (start, end)
    assert answer["score"] == pytest.approx(score, rel=1e-5)


def test_questions_in_batches_are_answered_as_one_by_one(answering):
    pairs = [{"question": QUESTION, "context": context} for context in (CONTEXT, "sparse and compressed tokens " * 9)]
    single = [answering(pair, max_seq_length=16) for pair in pairs]
    together = answering(pairs, batch_size=3, max_seq_length=16)
    columns = {name: [pair[name] for pair in pairs] for name in ("question", "context")}
    assert answering(**columns, max_seq_length=16) == single
    for one, other in zip(single, together, strict=True):
        assert (one["start"], one["end"]) == (other["start"], other["end"])
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)


def test_no_answer_competes_where_it_may(answering):
    with torch.no_grad():
        answering.model.qa_outputs.weight.zero_()
        answering.model.qa_outputs.bias.zero_()
    every = answering(question=QUESTION, context=CONTEXT, top_k=100, handle_impossible_answer=True)
    assert len(every) == 22
    assert {one["answer"] for one in every if one["end"] == 0} == {""}
    assert every[0]["score"] == pytest.approx(1 / 22)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"question": " ", "context": CONTEXT}, "needs a question"),
        ({"question": QUESTION}, "needs a context"),
        ({"question": QUESTION, "context": CONTEXT, "top_k": 0}, "top_k must be a whole number >= 1"),
        ({"question": QUESTION, "context": CONTEXT, "top_k": None}, "top_k must be a whole number >= 1"),
        ({"inputs": QUESTION}, "or a dictionary of both"),
        ({"question": QUESTION, "context": CONTEXT, "max_seq_length": 7}, "leaves no room"),
        ({"question": QUESTION, "context": CONTEXT, "max_seq_length": 10, "doc_stride": 3}, r"in \[0, 3\)"),
        ({"question": QUESTION, "context": CONTEXT, "tok_k": 2}, "unknown option of question-answering: tok_k"),
    ],
)
def test_bad_questions_are_named(answering, call, message):
    with pytest.raises(ValueError, match=message):
        answering(**call)


def test_any_room_may_be_imported_first():
    code = """
from crate_transformers.layers import CrateLayer
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("crate", vocab_size=7, hidden_size=6, num_hidden_layers=1, num_attention_heads=2)
print(type(AutoModel.from_config(config)).__name__)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["CrateModel"], done.stderr
