"""`--set key=value`."""

import pytest

from crate_transformers.cli.settings import parse_settings
from crate_transformers.errors import UserError


def test_what_a_value_means():
    settings = ["a.b= 3", "c=[24,16]", "d=1e-4", "e=010", "f=1:30", "g={0: cat, 1: dog}", "h=x=y", "i=", "j='1e-3'"]
    assert parse_settings(settings) == {
        "a.b": 3, "c": [24, 16], "d": 1e-4, "e": "010", "f": "1:30", "g": {0: "cat", 1: "dog"}, "h": "x=y", "i": None,
        "j": "1e-3",
    }  # fmt: skip
    assert parse_settings(None) == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["train.seed"], "--set takes key=value, got 'train.seed'"),
        (["=3"], "--set takes key=value"),
        (["train.seed=1", " train.seed =2"], "--set train.seed is given twice"),
        (["train.seed=" + "[" * 5000], "--set train.seed, line 1, column 17: it is nested deeper than 16 levels"),
        (["train.seed=&a [*a]"], "--set train.seed, line 1, column 1: .* nested deeper than 16 levels by an alias"),
        (["train.seed=1\0"], r"--set train.seed, line 1, column 2: holds the character U\+0000"),
        (["train.seed=\udce9"], r"--set train.seed, line 1, column 1: holds the character U\+DCE9"),
        (["data.root=/pictures #2"], "--set data.root: '#2' is a comment in YAML: put quotes around the whole value"),
        (["data.root=#2"], "--set data.root: '#2' is a comment"),
        (["train.seed=[1"], "--set train.seed, line 1, column 3: not YAML"),
        (["train.seed=.inf"], "--set train.seed, line 1, column 1: it is not a finite number"),
        (["train.seed=" + "9" * 400], "--set train.seed, line 1, column 1: it is an integer of 400 digits"),
        (["train.seed=!!python/name:os.system x"], "--set train.seed, line 1, column 1: it has the tag !!python"),
        (["model.id2label={0: a, 0: b}"], "--set model.id2label, line 1, column 8: 0 stands twice"),
    ],
)
def test_what_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        parse_settings(settings)


def test_a_path_with_quotes_holds_what_it_says():
    assert parse_settings(["data.root='/pictures #2'"]) == {"data.root": "/pictures #2"}
