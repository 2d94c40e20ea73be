"""What each of the four fine-tuning tasks takes from its labels, and how it measures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crate_transformers.training import load_recipe
from crate_transformers.training.tasks import task_of

SMALL = {"model.hidden_size": 12, "model.num_hidden_layers": 1, "model.num_attention_heads": 3, "data.vocab_size": 300}
WHOLE = {"data.validation_fraction": 0, "data.test_fraction": 0, "data.context_length": 64}


def head(folder, name, rows):
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return task_of(load_recipe(name, {**SMALL, **WHOLE, "data.source": f"json:{folder}"}), folder / "run")


def measured(task, predicted, truth):
    return task.compute_metrics(SimpleNamespace(predictions=np.array(predicted), label_ids=np.array(truth)))


def rows(labels):
    return [{"text": f"a text of {i}", "label": label} for i, label in enumerate(labels)]


def test_a_class_for_a_text(tmp_path):
    task = head(tmp_path, "sequence-classification", rows(["b", "a", "b"]))
    assert (task.metric, task.greater_is_better) == ("eval_accuracy", True)
    assert task.model.config.label2id == {"a": 0, "b": 1}
    assert task.rows_by_label() == {"a": 1, "b": 2}
    found = measured(task, [0, 1, 1, 1], [0, 1, 0, 1])
    assert found == pytest.approx({"accuracy": 0.75, "f1": (2 / 3 + 4 / 5) / 2, "matthews": 1 / np.sqrt(3)})


def test_several_classes_for_a_text(tmp_path):
    task = head(tmp_path, "sequence-classification", rows([["a"], ["a", "c"], ["b"]]))
    assert task.model.config.problem_type == "multi_label_classification"
    assert task.train_data[1]["labels"] == [1.0, 0.0, 1.0]
    assert task.rows_by_label() == {}
    assert task.reduce_outputs(torch.tensor([[0.5, -1, 2]]), None).tolist() == [[1, 0, 1]]
    assert "matthews" not in measured(task, [[1, 0, 1]], [[1, 0, 0]])


def test_a_number_for_a_text(tmp_path):
    task = head(tmp_path, "sequence-classification", rows([0.5, 1.5, 3.25]))
    assert (task.metric, task.greater_is_better) == ("eval_loss", False)
    assert (task.model.config.num_labels, task.model.config.problem_type) == (1, "regression")
    assert task.reduce_outputs(torch.tensor([[0.5], [2.0]]), None).tolist() == [0.5, 2.0]
    assert measured(task, [1.0, 2.0], [1.0, 5.0]) == {"mean_squared_error": 4.5}


def test_tags_count_where_there_is_a_word(tmp_path):
    task = head(tmp_path, "token-classification", [{"tokens": ["one", "two"], "tags": ["O", "B-X"]}])
    batch = task.collator([task.train_data[0]])
    assert task.count_items(batch) == 2
    names = task.rows.labels
    truth = [[-100, names.index("B-X"), names.index("O"), -100]]
    assert measured(task, [[0, names.index("B-X"), names.index("B-X"), 1]], truth) == pytest.approx(
        {"accuracy": 0.5, "f1": 2 / 3}
    )


def test_choices_are_sequences_of_the_backbone(tmp_path):
    task = head(tmp_path, "multiple-choice", [{"question": "q", "choices": ["a", "b", "c"], "label": 2}] * 2)
    assert task.collator([task.train_data[0], task.train_data[1]])["input_ids"].shape[:2] == (2, 3)
    assert task.sample_inputs(2)["input_ids"].shape[0] == 6
    assert task.flop_inputs()["input_ids"].shape[:2] == (1, 3)
    assert measured(task, [2, 0], [2, 2]) == {"accuracy": 0.5}
