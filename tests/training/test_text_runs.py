"""Text through the one command: language models in bits per byte, their baselines, and fine-tuning from a csv file."""

import json

import pytest

from crate_transformers.training import load_recipe, train
from crate_transformers.training.generation import generate_text

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
        assert generate_text(tmp_path / "run", "the cat", max_new_tokens=4, temperature=0)


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
