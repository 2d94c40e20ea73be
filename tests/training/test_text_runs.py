"""Text through the one command: language models in bits per byte, their baselines, and fine-tuning from a csv file."""

import json

import pytest
from datasets import Dataset
from transformers import ByT5Tokenizer

from crate_transformers.data.text.labelled import load_labelled_text
from crate_transformers.evaluation.generation import GenerationSettings, generate_text
from crate_transformers.training import load_recipe, train

SMALL = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "data.context_length": 16,
    "train.per_device_train_batch_size": 8,
    "train.warmup_steps": 2,
    "train.learning_rate": 0.01,
}
WORDS = "the cat sat on the mat and the dog sat on the log while the bird sang in the tree "


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text(WORDS * 300)
    return {"data.source": f"text:{file}", "data.vocab_size": 300}


@pytest.mark.parametrize(("name", "family"), [("clm", "crate"), ("clm", "gpt2"), ("mlm", "crate"), ("mlm", "bert")])
def test_language_models_learn_and_say_their_bits_per_byte(text, tmp_path, name, family):
    own = {"model.family": family, "train.max_steps": 40, "train.eval_steps": 20}
    result = train(load_recipe(name, {**SMALL, **text, **own}), tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert result.status == "finished"
    assert metrics["test"]["loss"] < 5.0  # of ln 300 = 5.7
    coded = "bits_per_byte" if name == "clm" else "masked_bits_per_byte"
    assert 0 < metrics["test"][coded] < 8
    page = (tmp_path / "run" / "report.html").read_text()
    assert "xz -9" in page
    if name == "clm":
        assert generate_text(tmp_path / "run", "the cat", GenerationSettings(max_new_tokens=4, temperature=0))


def test_a_stream_says_that_its_order_is_not_exact(tmp_path):
    (tmp_path / "hub").mkdir()
    for part in ("train", "validation", "test"):
        Dataset.from_dict({"text": [WORDS * 4] * 30}).to_parquet(tmp_path / "hub" / f"{part}.parquet")
    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    own = {
        "data.source": f"hub:{tmp_path / 'hub'}",
        "data.streaming": True,
        "data.tokenizer": str(tmp_path / "bytes"),
        "train.max_steps": 4,
        "train.eval_steps": 4,
    }
    told = []
    result = train(load_recipe("clm", {**SMALL, **own}), tmp_path / "run", on_note=told.append)
    assert result.metrics["train"]["order"] == "not exact"
    assert any("the order of a stream is not exact" in line for line in told)


def test_fine_tuning_from_a_csv_file(tmp_path):
    rows = ["text,label"] + [
        f"{word} {i},{label}" for i in range(150) for word, label in (("good", "yes"), ("bad", "no"))
    ]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    settings = {**SMALL, "data.source": f"csv:{tmp_path / 'rows.csv'}", "data.vocab_size": 300}
    settings |= {
        "train.num_train_epochs": 100,
        "train.max_steps": 80,
        "train.eval_steps": 80,
        "train.learning_rate": 0.003,
    }
    result = train(load_recipe("sequence-classification", settings), tmp_path / "run")
    assert result.metrics["test"]["accuracy"] > 0.9
    assert {"f1", "matthews"} <= set(result.metrics["test"])


def json_lines(folder, name, rows):
    (folder / name).write_text("\n".join(map(json.dumps, rows)) + "\n")
    return f"json:{folder / name}"


ROWS = {
    "token-classification": {"tokens": ["the", "cat"], "tags": ["O", "B-X"]},
    "multiple-choice": {"question": "what ?", "choices": ["the cat", "a dog"], "label": 1},
    "question-answering": {
        "question": "who sat ?",
        "context": "the cat sat on the mat",
        "answers": {"text": ["the cat"], "answer_start": [0]},
    },
}


@pytest.mark.parametrize("task", ROWS)
def test_fine_tuning_from_json_lines(task, tmp_path):
    source = json_lines(tmp_path, "rows.jsonl", [ROWS[task]] * 40)
    settings = {**SMALL, "data.source": source, "data.vocab_size": 300, "data.context_length": 32}
    settings |= {"train.max_steps": 6, "train.eval_steps": 6, "train.num_train_epochs": 10}
    result = train(load_recipe(task, settings), tmp_path / "run")
    assert result.metrics["test"]["loss"] > 0


@pytest.mark.parametrize(
    ("task", "wrong", "message"),
    [
        ("token-classification", {"tags": ["O"]}, "row 1: .* a tag for each word"),
        ("multiple-choice", {"choices": ["the cat", "a dog", "a bird"]}, "row 1 has 3 choices, row 0 has 2"),
        ("multiple-choice", {"choices": ["the cat", None]}, "row 1 lacks its question or a choice"),
        ("question-answering", {"context": ""}, "row 1 lacks its question or its context"),
        ("question-answering", {"answers": {"text": ["a", "b"], "answer_start": [0]}}, "row 1: answers must be"),
    ],
)
def test_wrong_rows_are_named(task, wrong, message, tmp_path):
    source = json_lines(tmp_path, "rows.jsonl", [ROWS[task], {**ROWS[task], **wrong}])
    with pytest.raises(ValueError, match=message):
        load_labelled_text(source, task, 0, 0.0, 0.0)


def test_what_classes_need(tmp_path):
    source = json_lines(tmp_path, "one.jsonl", [{"text": "good", "label": "yes"}] * 3)
    with pytest.raises(ValueError, match="one class"):
        load_labelled_text(source, "sequence-classification", 0, 0.0, 0.0)
    source = json_lines(tmp_path, "gap.jsonl", [{"text": "good", "label": "yes"}, {"text": "", "label": "no"}])
    with pytest.raises(ValueError, match="row 1 has no text"):
        load_labelled_text(source, "sequence-classification", 0, 0.0, 0.0)


def test_a_run_cut_off_while_tokenising_starts_again(text, tmp_path):
    (tmp_path / "run" / "cache").mkdir(parents=True)
    (tmp_path / "run" / "cache" / ".tokens-0.1.part").write_bytes(b"half")
    recipe = load_recipe("clm", {**SMALL, **text, "train.max_steps": 2, "train.eval_steps": 2})
    assert train(recipe, tmp_path / "run").status == "finished"
    (tmp_path / "own" / "cache").mkdir(parents=True)
    (tmp_path / "own" / "cache" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no run of ours"):
        train(recipe, tmp_path / "own", overwrite=True)


def test_tokens_of_a_changed_file_are_made_anew(tmp_path):
    settings = {**SMALL, "data.vocab_size": 300, "data.cache_dir": str(tmp_path / "cache")}
    settings |= {"train.max_steps": 2, "train.eval_steps": 2, "data.source": f"text:{tmp_path / 'a.txt'}"}
    for words, count in (("the cat sat ", 600), ("a dog lay ", 900)):
        (tmp_path / "a.txt").write_text(words * count)
        train(load_recipe("clm", settings), tmp_path / words.split()[1])
    assert len(list((tmp_path / "cache").glob("*.bin"))) == 6  # three parts of either text


def test_a_masked_model_does_not_continue_a_text(text, tmp_path):
    train(load_recipe("mlm", {**SMALL, **text, "train.max_steps": 2, "train.eval_steps": 2}), tmp_path / "run")
    with pytest.raises(ValueError, match="fills gaps"):
        generate_text(tmp_path / "run", "the cat")
