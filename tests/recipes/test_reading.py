"""The text of a recipe has one meaning, or is refused with its key and place, in bounded time and memory."""

import time

import pytest

from crate_transformers.errors import UserError
from crate_transformers.recipes import load_recipe
from crate_transformers.recipes.reading import MAX_BYTES, read_yaml

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n"
for before, name in zip("abcdefghij", "bcdefghijk", strict=True):  # each nine times the one before
    LAUGHS += f"{name}: &{name} [" + ",".join([f"*{before}"] * 9) + "]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, r"own.yaml, line 1, column 8: \w.* grows to more than 50,000 values"),
        ("train: &t {seed: *t}\n", r"line 1, column 8: train.seed.* nested deeper than 16 levels by an alias"),
        ("train:\n  seed: 1\n  seed: 2\n", "line 3, column 3: train.seed stands twice, first on line 2"),
        ("train: {}\nmodel: {}\ntrain: {}\n", "line 3, column 1: train stands twice, first on line 1"),
        ("train:\n  5: 1\n", r"line 2, column 3: train has a key '5' that YAML reads as 5: expected a name"),
        ("1.5: 1\n", "line 1, column 1: it has a key '1.5'"),
        ("yes: 1\n", "line 1, column 1: it has a key 'yes' that YAML reads as True"),
        ("~: 1\n", "line 1, column 1: it has a key '~' that YAML reads as None"),
        ("[a]: 1\n", "line 1, column 1: it has a list or a mapping as a key"),
        ("model: {id2label: {no: cat}}\n", "model.id2label has a key 'no' that YAML reads as False"),
        ("2024-01-01: 1\n", "line 1, column 1: unknown key 2024-01-01 in the recipe"),
        ("train:\n  seed: " + "[" * 5000, "line 2, column 23: train.seed is nested deeper than 16 levels"),
        ("{" * 5000, "is nested deeper than 16 levels"),
        ("- " * 5000, "is nested deeper than 16 levels"),
        ("name: [" + "1," * 60_000 + "]\n", "name makes more than 50,000 values"),
        ("name: a\0b\n", r"line 1, column 8: holds the character U\+0000"),
        ("train:\n  run_name: 'a\x07b'\n", r"line 2, column 15: holds the character U\+0007"),
        ('train:\n  run_name: "a\\0b"\n', r"line 2, column 13: train.run_name holds the character U\+0000"),
        ("train: {}\n---\ntrain: {}\n", "line 2, column 1: not YAML: expected a single document"),
        ("train:\n\tseed: 1\n", r"line 2, column 1: not YAML: .*'\\t'"),
        ("model: &m {pool: cls}\ntrain:\n  <<: *m\n", r"line 3, column 3: train has a merge key \(<<\)"),
        ("name: !!python/object/apply:os.getcwd []\n", "line 1, column 7: name has the tag !!python"),
        ("name: !mine x\n", "line 1, column 7: name has the tag !mine"),
        ("- model\n- data\n", r"own.yaml holds \['model', 'data'\], which is no recipe"),
        ("model\n", "own.yaml holds 'model', which is no recipe"),
        ("", "own.yaml is empty"),
        ("# nothing\n", "own.yaml is empty"),
        ("data:\n- source\n", "line 1, column 1: the section 'data' of a recipe must hold keys and values"),
        ("data: []\n", "line 1, column 1: the section 'data' of a recipe must hold keys and values"),
        ("train:\n  seed: -1\n", r"line 2, column 3: train.seed must be in \[0, 4294967295\], got -1"),
        ("train: {seed: 4294967296}\n", r"line 1, column 9: train.seed must be in \[0, 4294967295\]"),
        ("train: {seed: 1.0}\n", "line 1, column 9: train.seed must be int, got 1.0"),
        ("train: {seed: true}\n", "line 1, column 9: train.seed must be int, got True"),
        ("train: {seed: '1'}\n", "line 1, column 9: train.seed must be int, got '1'"),
        ("train: {seed: 010}\n", "line 1, column 9: train.seed must be int, got '010'"),
        ("train: {max_steps: 1:30}\n", "line 1, column 9: train.max_steps must be int, got '1:30'"),
        ("train: {learning_rate: '1e-3'}\n", "train.learning_rate must be float, got '1e-3'"),
        ("train: {learning_rate: .inf}\n", "line 1, column 24: train.learning_rate is not a finite number"),
        ("train: {learning_rate: .nan}\n", "train.learning_rate is not a finite number"),
        ("train: {learning_rate: 1e400}\n", "train.learning_rate is larger than a number can be"),
        (f"train: {{learning_rate: {10**400}}}\n", "train.learning_rate is an integer of 401 digits"),
        ("model: {ista_lambda: [.inf]}\n", r"model.ista_lambda\[0\] is not a finite number"),
        ('name: "\\U0011FFFF"\n', "own.yaml: not YAML"),
        ("%YAML 1." + "9" * 5000 + "\n---\nname: a\n", "own.yaml: not YAML"),
        ("name: ../elsewhere\n", "line 1, column 1: name must be a text that can name a folder"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(UserError, match=words) as caught:
        load_recipe(str(path))
    assert len(str(caught.value)) < 500
    assert time.process_time() - started < 10


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_bytes("name: é\ntrain: {run_name: ".encode() + b"\xe9}\n")
    with pytest.raises(UserError, match=r"own.yaml, line 2, column 19: not UTF-8 text \(byte 0xe9\)"):
        load_recipe(str(path))
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(UserError, match=r"own.yaml is larger than 1,048,576 bytes"):
        load_recipe(str(path))


def test_what_a_text_means(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "\ufeffname: 2024-01-01\n"
        "model: {id2label: {0: cat, 1: dog}, image_size: &size [8, 8], patch_size: *size}\n"
        "data: {mean: &m [.5], std: *m}\n"
        "train: {learning_rate: 1e-4, weight_decay: 5., warmup_steps: 1_000, bf16: no, run_name: !!str 5}\n"
    )
    recipe = load_recipe(str(path))
    assert recipe.name == "2024-01-01"
    assert recipe.model["id2label"] == {0: "cat", 1: "dog"}
    assert (recipe.model["patch_size"], recipe.data.std) == ([8, 8], [0.5])
    expected = {"learning_rate": 1e-4, "weight_decay": 5.0, "warmup_steps": 1000, "bf16": False, "run_name": "5"}
    assert recipe.arguments == expected


def test_places_of_keys():
    value, places = read_yaml("train:\n  seed: 1\n", "own.yaml")
    assert value == {"train": {"seed": 1}}
    assert places == {"train": "own.yaml, line 1, column 1", "train.seed": "own.yaml, line 2, column 3"}


def test_a_recipe_is_written_as_it_is_read(tmp_path):
    """Texts that look like numbers, one list in two places, tuples."""
    shared = [0.5]
    settings = {"data.mean": shared, "data.std": shared, "model.image_size": (8, 8), "train.learning_rate": 1e-5}
    recipe = load_recipe("digits", {**settings, "data.root": "1e-4", "train.run_name": "010"})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert "&" not in recipe.to_yaml()
    again = load_recipe(str(tmp_path / "recipe.yaml"))
    assert again == recipe
    assert again.data.root == "1e-4"
    assert again.model["image_size"] == [8, 8]
