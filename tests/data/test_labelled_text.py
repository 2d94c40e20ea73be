"""Labels are counted as the classes that they are, or refused by name."""

import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from crate_transformers.data.text.labelled import load_labelled_text
from crate_transformers.errors import UserError

KEYS = {"sequence-classification": "label", "token-classification": "tags", "multiple-choice": "label"}


def rows_of(task, labels):
    if task == "token-classification":
        return [{"tokens": [f"w{i}" for i in range(len(one))], "tags": one} for one in labels]
    fields = {"question": "q", "choices": ["a", "b", "c"]} if task == "multiple-choice" else {"text": "t"}
    return [{**fields, "label": one} for one in labels]


def from_json(folder, task="sequence-classification", **parts):
    for part, labels in parts.items():
        lines = [json.dumps(row) + "\n" for row in rows_of(task, labels)]
        (folder / f"{part}.jsonl").write_text("".join(lines))
    return load_labelled_text(f"json:{folder}", task, 0, 0.0, 0.0)


def from_csv(folder, **parts):
    for part, labels in parts.items():
        (folder / f"{part}.csv").write_text("text,label\n" + "".join(f"t,{label}\n" for label in labels))
    return load_labelled_text(f"csv:{folder}", "sequence-classification", 0, 0.0, 0.0)


def from_hub(folder, feature, **parts):
    for part, labels in parts.items():
        features = Features({"text": Value("string"), "label": feature})
        Dataset.from_dict({"text": ["t"] * len(labels), "label": labels}, features).to_parquet(
            folder / f"{part}.parquet"
        )
    return load_labelled_text(f"hub:{folder}", "sequence-classification", 0, 0.0, 0.0)


def labels_in(rows, part="train", key="label"):
    return [row[key] for row in rows.parts[part]]


@pytest.mark.parametrize(
    ("train", "test"),
    [([0, 1, 3, 4], [2]), ([True, False], [1]), ([0, 1], [True]), (["a", "b"], ["c"]), ([["a"], ["b"]], [["c"]])],
)
def test_a_label_that_training_lacks_is_named(tmp_path, train, test):
    with pytest.raises(UserError, match="row 0 of the test part: label .* does not occur in the training part"):
        from_json(tmp_path, train=train, test=test)


def test_a_tag_that_training_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match="row 1 of the val.* label 2 does not occur"):
        from_json(tmp_path, "token-classification", train=[[0, 1], [3]], val=[[0], [2]])


def test_names_and_places_of_labels(tmp_path):
    rows = from_json(tmp_path, train=[10, 9, 0], test=[10])
    assert (rows.labels, labels_in(rows), labels_in(rows, "test")) == (["0", "9", "10"], [2, 1, 0], [2])
    rows = from_json(tmp_path, train=["true", "false"], test=["true"])
    assert (rows.labels, labels_in(rows, "test")) == (["false", "true"], [1])
    rows = from_json(tmp_path, train=[True, False], test=[True])
    assert (rows.labels, labels_in(rows, "test")) == (["False", "True"], [1])
    rows = from_json(tmp_path, train=[[], ["b", "a"]], test=[["b"]])
    assert (rows.labels, labels_in(rows), labels_in(rows, "test")) == (["a", "b"], [[], [1, 0]], [[1]])


def test_labels_of_a_csv_file_keep_their_writing(tmp_path):
    rows = from_csv(tmp_path, train=["01", "1", "10", "9", "-2"], test=["01"])
    assert (rows.labels, labels_in(rows, "test")) == (["-2", "01", "1", "9", "10"], [1])
    rows = from_csv(tmp_path, train=["NA", "None", "nan"], test=["NA"])
    assert (rows.labels, labels_in(rows, "test")) == (["NA", "None", "nan"], [0])


def test_numbers_with_fractions_ask_for_a_regression(tmp_path):
    rows = from_csv(tmp_path, train=["0.5", "1", "1e2"], test=["-2"])
    assert (rows.labels, labels_in(rows), labels_in(rows, "test")) == (None, [0.5, 1.0, 100.0], [-2.0])
    rows = from_json(tmp_path, train=[1.0, 2.0], test=[3])
    assert (rows.labels, labels_in(rows), labels_in(rows, "test")) == (None, [1.0, 2.0], [3.0])
    with pytest.raises(UserError, match="row 2: label 'NA' is no number"):
        from_csv(tmp_path, train=["0.5", "1", "NA"])
    with pytest.raises(UserError, match="row 0 of the test part: label 'NA' is no finite number"):
        from_csv(tmp_path, train=["0.5", "1"], test=["NA"])
    with pytest.raises(UserError, match="row 1: label nan is no finite number"):
        from_json(tmp_path, train=[1.0, float("nan")])


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        ("sequence-classification", [0, None], "row 1 has no label"),
        ("sequence-classification", [1, "a"], "row 1: column 'label'"),
        ("sequence-classification", [[0, 1, 1], [1, 0, 0]], "row 0: label .* names a class twice"),
        ("sequence-classification", [[0.0, 1.0]], "row 0: label 0.0 is a number with a fraction"),
        ("sequence-classification", [["a"], ["b", None]], "row 1: label None is no class name"),
        ("token-classification", [["O"], [1.5]], "row 1: column 'tags'"),
        ("token-classification", [[0.0, 1.0]], "row 0: label 0.0 is a number with a fraction"),
        ("token-classification", [["O"], []], "row 1: tokens must be words"),
        ("multiple-choice", [1, 3], "row 1: label 3 is not one of the 3 choices"),
        ("multiple-choice", [1.5], "row 0: label 1.5 is not one"),
        ("multiple-choice", [None], "row 0: label None is not one"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path, task, labels, message):
    with pytest.raises(UserError, match=message):
        from_json(tmp_path, task, train=labels)


def test_parts_have_one_kind_of_label(tmp_path):
    with pytest.raises(UserError, match="row 0 of the test part has one label, rows of the training part have a list"):
        from_json(tmp_path, train=[["a"], ["b"]], test=["a"])


@pytest.mark.parametrize(
    ("task", "train", "test"),
    [
        ("sequence-classification", [0, 1], [-1, -1]),
        ("sequence-classification", ["a", "b"], [None, ""]),
        ("sequence-classification", [0.5, 1.5], [-1.0]),
        ("token-classification", [["O", "B"]], [[-1, -1]]),
        ("multiple-choice", [0, 1], [-1]),
    ],
)
def test_a_part_without_labels_is_left_out_and_said(tmp_path, task, train, test):
    rows = from_json(tmp_path, task, train=train, test=test)
    assert list(rows.parts) == ["train"]
    assert "the test part" in rows.notes[0]
    assert "no labels" in rows.notes[0]


def test_labels_of_the_hub_are_indices(tmp_path):
    names = ClassLabel(names=["neg", "pos", "2"])
    for folder in "abcd":
        (tmp_path / folder).mkdir()
    rows = from_hub(tmp_path / "a", names, train=[0, 1], test=[2, 1])
    assert (rows.labels, labels_in(rows, "test")) == (["neg", "pos", "2"], [2, 1])
    rows = from_hub(tmp_path / "b", List(names), train=[[0], [1, 2]], test=[[2]])
    assert (rows.labels, labels_in(rows, "test")) == (["neg", "pos", "2"], [[2]])
    assert list(from_hub(tmp_path / "c", names, train=[0, 1], test=[-1, -1]).parts) == ["train"]
    with pytest.raises(UserError, match="row 1 of the test part: label -1 is none of the 3 classes"):
        from_hub(tmp_path / "d", names, train=[0, 1], test=[1, -1])


def test_a_class_is_known_wherever_its_rows_land(tmp_path):
    lines = [json.dumps({"text": f"t{i}", "label": "rare" if i == 0 else f"c{i % 2}"}) for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    landed = set()
    for seed in range(8):
        rows = load_labelled_text(f"json:{tmp_path}/rows.jsonl", "sequence-classification", seed, 0.3, 0.3)
        assert rows.labels == ["c0", "c1", "rare"]
        landed |= {part for part, found in rows.parts.items() for row in found if row["text"] == "t0"}
        assert sorted(row["text"] for part in rows.parts.values() for row in part) == sorted(f"t{i}" for i in range(30))
    assert landed == {"train", "validation", "test"}


@pytest.mark.parametrize("value", [3, ["a"]])
def test_a_text_that_is_none_is_named(tmp_path, value):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": value, "label": "a"}))
    with pytest.raises(UserError, match="row 0: text is .* expected text"):
        load_labelled_text(f"json:{tmp_path}/rows.jsonl", "sequence-classification", 0, 0, 0)


@pytest.mark.parametrize("choices", ["ab", {"text": ["a"], "label": ["b"]}])
def test_choices_are_a_list(tmp_path, choices):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "q", "choices": choices, "label": 0}))
    with pytest.raises(UserError, match="row 0: choices must be a list of texts"):
        load_labelled_text(f"json:{tmp_path}/rows.jsonl", "multiple-choice", 0, 0, 0)


def test_columns_of_choices_stand_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "rows.csv").write_text("choice10,choice2,question,label\nlast,first,q,1\n")
    rows = load_labelled_text(f"csv:{tmp_path}/rows.csv", "multiple-choice", 0, 0, 0)
    assert rows.parts["train"] == [{"question": "q", "choices": ["first", "last"], "label": 1}]


def test_an_answer_stands_in_its_context(tmp_path):
    row = {"question": "q", "context": "the cat", "answers": {"text": ["cat"], "answer_start": [5]}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match="row 0: the answer 'cat' does not stand at character 5"):
        load_labelled_text(f"json:{tmp_path}/rows.jsonl", "question-answering", 0, 0, 0)
