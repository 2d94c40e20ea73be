"""WikiText, the Penn Treebank and LAMBADA on texts and models whose numbers are known."""

import csv
import json
import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from crate_transformers import CrateConfig, CrateForCausalLM
from crate_transformers.data.text.benchmarks import joined, read_lambada, read_word_text
from crate_transformers.evaluation.evaluate import EvaluationOptions, evaluate_model
from crate_transformers.evaluation.text_benchmarks import CausalReader, _windows

WORDS = ["[END]", "[UNK]", *["the", "cat", "sat", "on", "mat", "dog", "=", "."]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A causal model of 11 tokens of context; a token is a word."""
    torch.manual_seed(0)
    config = CrateConfig.from_size("gpt2-base", vocab_size=len(WORDS), hidden_size=12, num_hidden_layers=2,
                                   num_attention_heads=3, max_position_embeddings=11)  # fmt: skip
    model = CrateForCausalLM(config)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.7)
    place = tmp_path_factory.mktemp("model")
    model.save_pretrained(place)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]").save_pretrained(place)
    return place


def test_detokenizer_of_wikitext():
    text = (
        " = Work = \n \n = = Early life = = \n He didn 't earn $ 1 @,@ 000 @.@ 50 ( or less ) , it 's a \" well @-@ "
        'known " fact : <unk> [ 3 ] ; yes ! \n'
    )
    assert joined(text, "wikitext") == (
        "= Work =\n\n== Early life ==\nHe didn't earn $1,000.50 (or less), it's a \"well-known\" fact: <unk> "
        "[3]; yes!\n"
    )


def test_detokenizer_of_the_penn_treebank():
    text = " it 's <unk> but they do n't pay $ N million or N % \n no it was n't \n"
    assert joined(text, "ptb") == "it's <unk> but they don't pay $N million or N%\nno it wasn't\n"


def test_words_are_those_of_the_file(tmp_path):
    (tmp_path / "wiki.valid.tokens").write_text(" = A = \n \n b @-@ c <unk> . \n")
    content = read_word_text(f"wikitext:{tmp_path}", "validation")
    assert (content.words, content.lines, content.unknown) == (8, 3, 1)
    assert content.text == "= A =\n\nb-c <unk>.\n"
    assert read_word_text(f"ptb:{tmp_path / 'wiki.valid.tokens'}", "test").words == 8


@pytest.mark.parametrize(
    ("count", "context", "stride"), [(50, 11, 1), (50, 11, 4), (51, 11, 10), (11, 11, 5), (7, 11, 3)]
)
def test_windows_score_each_token_once_and_from_far_enough(count, context, stride):
    seen = []
    for start, end, first in _windows(count, context, stride):
        assert end - start <= context
        assert start < first
        assert start == 0 or first - start >= context - stride
        seen += range(first, end)
    assert seen == list(range(1, count))


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 4, 10, None])
def test_perplexity_is_that_of_the_windows(folder, tmp_path, stride):
    lines = ["the cat sat on the mat .", "the dog sat ."] * 4
    (tmp_path / "wiki.test.tokens").write_text("".join(f" {line} \n" for line in lines))
    metrics = evaluate_model(folder, f"wikitext:{tmp_path / 'wiki.test.tokens'}", more=EvaluationOptions(stride=stride))
    reader = CausalReader.open(folder, None)
    ids = [0, *reader.tokens(joined((tmp_path / "wiki.test.tokens").read_text(), "wikitext"))]
    nats, step = 0.0, stride or 5
    for target in range(1, len(ids)):  # the window that the token is in first, one token at a time
        start = 0 if target < 11 else ((target - 11) // step + 1) * step
        logits = reader.model(torch.tensor([ids[start:target]])).logits[0, -1]
        nats -= float(logits.log_softmax(-1)[ids[target]])
    assert metrics["tokens"] == len(ids) - 1
    assert metrics["loss"] == pytest.approx(nats / metrics["tokens"], rel=1e-5)
    assert metrics["word_perplexity"] == pytest.approx(math.exp(nats / 44), rel=1e-5)
    assert metrics["word_perplexity_with_line_ends"] == pytest.approx(math.exp(nats / 52), rel=1e-5)
    assert (metrics["stride"], metrics["context_length"], metrics["detokenizer"]) == (step, 11, "wikitext")


@torch.no_grad()
def test_lambada(folder, tmp_path):
    passages = [
        "the cat sat on the mat",
        "the dog sat on the dog",
        "the cat",
        "on the mat the cat sat on " * 2 + "the cat",
    ]
    reader = CausalReader.open(folder, None)
    nats, right = [], []
    for passage in passages:
        ids = reader.tokens(passage)[-11:]
        logs = reader.model(torch.tensor([ids[:-1]])).logits[0, -1].log_softmax(-1)
        nats.append(-float(logs[ids[-1]]))
        right.append(int(logs.argmax()) == ids[-1])
    best = WORDS[int(reader.model(torch.tensor([reader.tokens("the dog")])).logits[0, -1].argmax())]
    passages.append(f"the dog {best}")
    lines = "".join(json.dumps({"text": passage}) + "\n" for passage in passages)
    (tmp_path / "lambada.jsonl").write_text(lines)
    more = EvaluationOptions(tmp_path / "rows.csv")
    metrics = evaluate_model(folder, f"lambada:{tmp_path / 'lambada.jsonl'}", more=more)
    assert metrics["passages"] == 5
    assert metrics["accuracy"] == pytest.approx((sum(right) + 1) / 5)
    assert any(note.startswith("1 passages are longer than the context of 11 tokens") for note in metrics["notes"])
    with open(tmp_path / "rows.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["nats"]) for row in rows[:4]] == pytest.approx(nats, rel=1e-4)
    assert [row["right"] == "True" for row in rows] == [*right, True]
    assert (rows[0]["label"], rows[4]["predicted"]) == ("mat", best)


def test_a_word_of_several_tokens_counts_whole(tmp_path):
    """Bytes as tokens: all of the last word's must be the likeliest."""

    class Reader:
        eos_token_id = None

        def __call__(self, text, **_):
            return {"input_ids": list(text.encode())}

        def decode(self, ids):
            return bytes(ids).decode()

    class Successor(torch.nn.Module):
        device = torch.device("cpu")

        class config:
            vocab_size = 128

        def forward(self, input_ids):
            """The next byte is the one after this; after a space it is "a"."""
            following = torch.where(input_ids == 32, 97, input_ids + 1).clamp(max=127)
            following = torch.where(input_ids == ord("z"), 32, following)
            return type("Outputs", (), {"logits": 9 * torch.nn.functional.one_hot(following, 128).float()})

    from crate_transformers.evaluation.text_benchmarks import evaluate_lambada

    (tmp_path / "l.jsonl").write_text('{"text": "xyz abc"}\n\n{"text": "xyz abd"}\n{"text": "z a"}\n')
    metrics = evaluate_lambada(CausalReader(Successor(), Reader(), 32), f"lambada:{tmp_path / 'l.jsonl'}")
    assert metrics["accuracy"] == pytest.approx(2 / 3)


def test_refuses(folder, tmp_path):
    (tmp_path / "a.tokens").write_text("the cat sat\n")
    for source, keywords, message in (
        (f"wikitext:{tmp_path / 'none'}", {}, "no file at"),
        (f"wikitext:{tmp_path}", {}, "must hold one of wiki.test.tokens and wiki.test.raw, it has 0"),
        (f"wikitext:{tmp_path / 'a.tokens'}", {"split": "train"}, "is a file, so it is what is evaluated"),
        (f"ptb:{tmp_path / 'a.tokens'}", {"more": EvaluationOptions(stride=11)}, "--stride must be from 1 to 10"),
        (f"ptb:{tmp_path / 'a.tokens'}", {"more": EvaluationOptions(table=tmp_path / "x")}, "--csv is of image"),
        (
            f"ptb:{tmp_path / 'a.tokens'}",
            {"settings": {"data.context_length": 4}},
            "leave --set data.context_length out",
        ),
        (f"lambada:{tmp_path / 'a.tokens'}", {}, "line 1: no JSON"),
        (f"lambada:{tmp_path / 'a.tokens'}", {"split": "train"}, "leave --split train out"),
        ("imagenet-v2:x", {}, "imagenet-v2 is for image classifiers"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_model(folder, source, **keywords)
    (tmp_path / "one.jsonl").write_text('{"text": "the cat"}\n{"text": "cat"}\n')
    with pytest.raises(ValueError, match="line 2: expected"):
        read_lambada(f"lambada:{tmp_path / 'one.jsonl'}")
