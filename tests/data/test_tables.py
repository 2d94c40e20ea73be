"""csv and json files are read as they stand, parts are found by their names, and nothing is dropped in silence."""

import gzip
import json

import pytest

from crate_transformers.data.tables import load_tables
from crate_transformers.data.text import load_text_source
from crate_transformers.errors import UserError


def csv_file(folder, content, name="rows.csv"):
    folder.joinpath(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def column(kind, path, name="text"):
    return load_tables(kind, str(path))["train"][name][:]


def test_cells_of_a_csv_file_are_text_as_they_stand(tmp_path):
    cells = ["NA", "None", "null", "nan", "N/A", "01", "10", "True", "1e5", "1_000", "2020-01-01", " a ", "<s>"]
    assert column("csv", csv_file(tmp_path, "text\n" + "\n".join(cells) + "\n")) == cells


def test_only_an_empty_cell_is_missing(tmp_path):
    rows = load_tables("csv", csv_file(tmp_path, 'text,label\n,x\n"",y\nNA,\n'))["train"]
    assert rows[:] == {"text": [None, None, "NA"], "label": ["x", "y", None]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_line_ends_and_a_byte_order_mark(tmp_path, end):
    lines = ["\ufefftext,label", '"two\r\nlines, ""quoted""",x', "tab\there; and here,y", "", "a" * 200_000 + ",z"]
    rows = load_tables("csv", csv_file(tmp_path, end.join(lines) + end))["train"]
    assert rows[:] == {
        "text": ['two\r\nlines, "quoted"', "tab\there; and here", "a" * 200_000],
        "label": ["x", "y", "z"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text;label\na;b\n", "separated by semicolons"),
        ("text\tlabel\na\tb\n", "separated by tabs"),
        ("text,text,label\na,b,c\n", "two columns of the name 'text'"),
        ("text,label\na,b\na,b,c\n", "line 3: 3 cells, the header has 2"),
        ("text,label\na\n", "line 2: 1 cell, the header has 2"),
        ('text,label\n"a,b\nc,d\n', "unexpected end of data"),
        ('text,label\n"a"b,c\n', "line 2: ',' expected"),
        ("", "no header"),
        ("text,label\n", "the train part has no row"),
        ("text,label\na,b\n".encode("utf-16"), "UTF-16"),
        ("text,label\na,b\n".encode("utf-16-le"), "UTF-16"),
        ("text,label\ncafé,b\n".encode("latin-1"), "not UTF-8: byte 0xe9 in line 2"),
    ],
)
def test_what_is_no_csv_table_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        load_tables("csv", csv_file(tmp_path, content))
    assert "rows.csv" in str(caught.value)


def test_the_index_that_pandas_writes_has_no_name(tmp_path):
    assert load_tables("csv", csv_file(tmp_path, ",text\n0,a\n"))["train"].column_names == ["Unnamed: 0", "text"]


def test_compressed_files(tmp_path):
    whole = gzip.compress(b"text,label\na,b\n" * 50)
    assert len(column("csv", csv_file(tmp_path, whole, "whole.csv.gz"))) == 99
    with pytest.raises(UserError, match=r"cut\.csv\.gz cannot be read"):
        load_tables("csv", csv_file(tmp_path, whole[:-9], "cut.csv.gz"))


def json_file(folder, *rows, name="rows.jsonl"):
    folder.joinpath(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def test_values_of_a_json_file_keep_their_types(tmp_path):
    values = [["true", "NA"], ["2020-01-01", "01"]]
    rows = [{"text": text, "other": other, "list": [1, 2], "bool": True, "number": 3} for text, other in values]
    path = json_file(tmp_path, *rows)
    assert load_tables("json", str(path))["train"].to_list() == rows
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(rows, indent=1).encode())  # one list, behind a byte-order mark
    assert load_tables("json", str(path))["train"].to_list() == rows
    path.write_text('["a", "b"]')
    assert column("json", path) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": 1}\n', "row 1: column 'text' holds a whole number where it held text"),
        ('{"text": ["a", 1]}\n', "row 0: column 'text'"),
        ('{"text": ["a"]}\n{"text": "a"}\n', "row 1: column 'text' holds text where it held a list"),
        ('{"text": "a"}\n{"text":\n', "line 2 is no JSON"),
        ('{"text": "a", "text": "b"}\n', "'text' stands twice"),
        ('{"text": "\\ud800"}\n', "row 0: column 'text': .*half a character"),
        ('{"text": 99999999999999999999}\n', "more than 64 bits"),
        ("3\n", "line 1: expected an object"),
        ("[1]", "item 0: expected an object"),
        ("", "has no row"),
    ],
)
def test_what_is_no_json_table_is_named(tmp_path, content, message):
    (tmp_path / "rows.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_tables("json", str(tmp_path / "rows.json"))


def test_objects_of_many_kinds_beside_the_text_are_no_fault(tmp_path):
    path = json_file(tmp_path, {"text": "a", "meta": {"x": 1}}, {"text": "b", "meta": {"x": "y"}}, {"text": "c"})
    assert column("json", path) == ["a", "b", "c"]
    assert column("json", path, "meta") == ['{"x": 1}', '{"x": "y"}', None]


# -- parts of a folder ------------------------------------------------------------------------------------------------


def folder_of(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text,label\n{name},x\n")
    return str(root)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train.csv", "val.csv", "test.csv"),
        ("Training.CSV", "dev.csv", "testing.csv"),
        ("train-00001-of-2.csv", "VALID_1.csv", "test_set.csv"),
        ("train/a.csv", "validation/b.csv", "Test/c.csv"),
    ],
)
def test_parts_are_known_by_their_names(tmp_path, train, validation, test):
    tables = load_tables(
        "csv", folder_of(tmp_path, train, validation, test, "README.md", ".hidden.csv", "run/cache/a.csv")
    )
    found = {part: table["text"][:] for part, table in tables.items()}
    assert found == {"train": [train], "validation": [validation], "test": [test]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.csv", "extra.csv"), "has extra.csv: expected files named train"),
        (("train.csv", "trainer.csv"), "has trainer.csv"),
        (("train.csv", "val.csv", "dev.csv"), "which of them is the validation part"),
        (("train.csv", "train.csv.gz"), "which of them is the train part"),
        (("train.csv", "test.tsv"), "no csv file for the test part, but test.tsv"),
        (("val.csv", "test.csv"), "expected files named train"),
        (("README.md",), "no csv file at"),
    ],
)
def test_files_of_no_part_are_refused(tmp_path, names, message):
    with pytest.raises(UserError, match=message):
        load_tables("csv", folder_of(tmp_path, *names))


def test_files_of_one_part_have_the_same_columns(tmp_path):
    (tmp_path / "train1.csv").write_text("text,label\na,b\n")
    (tmp_path / "train2.csv").write_text("label,text\nd,c\n")
    assert column("csv", tmp_path) == ["a", "c"]
    (tmp_path / "train2.csv").write_text("text,lbl\na,b\n")
    with pytest.raises(UserError, match=r"train2\.csv has the columns text, lbl"):
        load_tables("csv", str(tmp_path))


# -- running text in tables -------------------------------------------------------------------------------------------


def test_texts_of_a_table(tmp_path):
    path = csv_file(tmp_path, "text,label\n" + "".join(f"<s> {i},NA\n" for i in range(20)))
    splits = load_text_source(f"csv:{path}", 0.1, 0.1)
    counts = [len(list(part.documents())) for part in (splits.train, splits.validation, splits.test)]
    assert counts == [16, 2, 2]
    every = [piece for part in (splits.train, splits.validation, splits.test) for piece in part.pieces()]
    assert sorted(every) == sorted(f"<s> {i}" for i in range(20))
    before = splits.state
    assert load_text_source(f"csv:{path}", 0.1, 0.1).state == before
    csv_file(tmp_path, "text,label\n" + "".join(f"<p> {i},NA\n" for i in range(20)))
    assert load_text_source(f"csv:{path}", 0.1, 0.1).state != before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": ""}, {"text": None}], "the column 'text' is empty"),
        ([{"text": None}, {"text": 3}], "row 1: text holds '3'"),
        ([{"text": ["a"]}], "row 0: text holds .*list"),
        ([{"text": "only one"}], "too few rows"),
    ],
)
def test_columns_without_text_are_named(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        load_text_source(f"json:{json_file(tmp_path, *rows)}")
