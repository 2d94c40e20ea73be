"""What the text tasks make of their rows and texts, before any training."""

import json

import pytest
from datasets import Dataset
from transformers import ByT5Tokenizer

from crate_transformers.training import load_recipe
from crate_transformers.training.tasks import task_of
from crate_transformers.training.tasks.language_modeling import LanguageModeling

SMALL = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "data.context_length": 64,
    "data.vocab_size": 300,
}
SPELLED = "the <mask> cat</s> <s><pad> sat"
ROWS = {
    "sequence-classification": [{"text": SPELLED, "text2": SPELLED, "label": label} for label in ("a", "b")],
    "token-classification": [{"tokens": SPELLED.split(), "tags": ["O", "A", "O", "A", "O"]}],
    "multiple-choice": [{"question": SPELLED, "choices": [SPELLED, "a cat"], "label": 1}],
    "question-answering": [
        {"question": SPELLED, "context": SPELLED, "answers": {"text": ["cat</s>"], "answer_start": [11]}}
    ],
}


def head(folder, task, rows, **settings):
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {**SMALL, "data.source": f"json:{folder}", "data.validation_fraction": 0, "data.test_fraction": 0}
    return task_of(load_recipe(task, {**options, **settings}), folder / "run")


@pytest.mark.parametrize("task", ROWS)
def test_rows_that_spell_special_tokens_are_text(task, tmp_path):
    task = head(tmp_path, task, ROWS[task])
    tokenizer, item = task.tokenizer, task.train_data[0]
    inputs = item["input_ids"] if task.recipe.task == "multiple-choice" else [item["input_ids"]]
    for ids in inputs:
        assert not {tokenizer.mask_token_id, tokenizer.pad_token_id} & set(ids)
        assert ids.count(tokenizer.bos_token_id) == 1  # the template's, at the start
        assert ids.count(tokenizer.eos_token_id) == (1 if task.recipe.task == "token-classification" else 3)
    read = tokenizer.decode([token for token in inputs[0] if token not in tokenizer.all_special_ids])
    assert read.startswith(SPELLED if task.recipe.task != "token-classification" else SPELLED.replace(" ", ""))
    if task.recipe.task == "question-answering":
        span = item["input_ids"][item["start_positions"] : item["end_positions"] + 1]
        assert tokenizer.decode(span).strip() == "cat</s>"


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
def test_a_slow_tokenizer_is_named_where_it_cannot_serve(task, tmp_path):
    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    with pytest.raises(ValueError, match="needs a fast tokenizer.*ByT5Tokenizer"):
        head(tmp_path, task, ROWS[task], **{"data.tokenizer": str(tmp_path / "bytes")})


def test_a_part_without_labels_is_said(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "a", "text2": "b", "label": None}))
    assert "the test part" in head(tmp_path, "sequence-classification", ROWS["sequence-classification"]).notes[0]


def causal(folder, source, **settings):
    options = {**SMALL, "data.source": source, "data.cache_dir": str(folder / "cache"), "data.context_length": 8}
    return LanguageModeling(load_recipe("clm", {**options, **settings}), folder / "run")


@pytest.mark.parametrize("streaming", [False, True])
def test_tokens_of_a_hub_data_set_follow_its_content(tmp_path, streaming):
    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")  # one tokenizer, whatever the text
    (tmp_path / "hub").mkdir()
    settings = {"data.streaming": streaming, "data.tokenizer": str(tmp_path / "bytes")}
    for words in ("the cat sat on a mat ", "the dog sat on a log "):
        for part in ("train", "validation", "test"):
            Dataset.from_dict({"text": [words * 20] * 5}).to_parquet(tmp_path / "hub" / f"{part}.parquet")
        task = causal(tmp_path, f"hub:{tmp_path / 'hub'}", **settings)
        assert task.tokenizer.decode(task.held_out["test"].open()).startswith(words)
    made = len(list((tmp_path / "cache").glob("*.bin")))
    causal(tmp_path, f"hub:{tmp_path / 'hub'}", **settings)
    assert len(list((tmp_path / "cache").glob("*.bin"))) == made == (4 if streaming else 6)


def test_a_folder_read_as_one_text_is_said(tmp_path):
    (tmp_path / "text").mkdir()
    for name in ("test.txt", "notes.txt"):
        (tmp_path / "text" / name).write_text("the cat sat on a mat " * 40)
    assert "test.txt too" in causal(tmp_path, f"text:{tmp_path / 'text'}").notes[0]
