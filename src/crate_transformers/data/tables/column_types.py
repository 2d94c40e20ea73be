"""Which type each column of some files has.

A json file is read once for its types alone, so that a row which does not fit can be named.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from .rows import read_rows

if TYPE_CHECKING:
    import pyarrow


class _Mixed(Exception):
    """Two types that have no common one. in_object: within a {...}, not in the column itself."""

    def __init__(self, old: "pyarrow.DataType", new: "pyarrow.DataType", in_object: bool = False):
        super().__init__(f"{_in_words(new)} where it held {_in_words(old)} before")
        self.in_object = in_object


def column_types(kind: str, paths: list[Path]) -> tuple["pyarrow.Schema", tuple[str, ...]]:
    """(pyarrow schema, columns whose objects differ in their types) of csv or json files.

    csv: all columns are text. json: the types of the values; whole numbers beside others are numbers. Objects whose
    fields differ in type from row to row have no type of their own: they are to be kept as text.

    Raises:
        ValueError: csv files with different columns, a column of mixed types; named with the row, counted from 0.
    """
    import pyarrow  # comes with datasets

    if kind == "csv":
        return pyarrow.schema([(name, pyarrow.string()) for name in _csv_columns(paths)]), ()
    types: dict[str, pyarrow.DataType] = {}
    known: set[tuple[str, type]] = set()  # (column, type of a value that is no list or object) that were met
    mixed: set[str] = set()
    for path in paths:
        for index, row in enumerate(read_rows(kind, path)):
            for name, value in row.items():
                if name in mixed or ((name, type(value)) in known and _fits(value)):
                    continue
                try:
                    types[name] = _join(types.get(name, pyarrow.null()), _type_of(value))
                except _Mixed as error:
                    if not error.in_object:
                        raise UserError(
                            f"{path}, row {index}: column {name!r} holds {error}: expected one type"
                        ) from error
                    mixed.add(name)
                    types[name] = pyarrow.string()
                except ValueError as error:
                    raise UserError(f"{path}, row {index}: column {name!r}: {error}") from error
                if not isinstance(value, list | dict):
                    known.add((name, type(value)))
    return pyarrow.schema(list(types.items())), tuple(sorted(mixed))


def _csv_columns(paths: list[Path]) -> list[str]:
    columns: list[str] = []
    for path in paths:
        row = next(read_rows("csv", path), {})
        if columns and row and set(columns) != row.keys():
            raise UserError(f"{path} has the columns {', '.join(row)}, {paths[0]} {', '.join(columns)}")
        columns = columns or list(row)
    return columns


def _fits(value: object) -> bool:
    """Whether Arrow holds a value: half a surrogate pair, and a whole number of more than 64 bits, it does not."""
    if isinstance(value, str):
        return value.isascii() or value == value.encode("utf-8", "ignore").decode("utf-8")
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _type_of(value: object) -> "pyarrow.DataType":
    """The type of one value of JSON.

    Raises:
        _Mixed: a list whose items have no type together. ValueError: a value that Arrow does not hold.
    """
    import pyarrow

    if isinstance(value, dict):
        return pyarrow.struct([(name, _type_of(one)) for name, one in value.items()])
    if isinstance(value, list):
        item = pyarrow.null()
        for one in value:
            item = _join(item, _type_of(one))
        return pyarrow.list_(item)
    if not _fits(value):
        raise ValueError(f"{value!r} is half a character or has more than 64 bits: change it, or write it as text")
    scalars = {str: pyarrow.string, bool: pyarrow.bool_, int: pyarrow.int64, float: pyarrow.float64}
    return scalars[type(value)]() if value is not None else pyarrow.null()


def _join(old: "pyarrow.DataType", new: "pyarrow.DataType") -> "pyarrow.DataType":
    """The type that holds values of both; None goes with everything.

    Raises:
        _Mixed: there is none.
    """
    import pyarrow
    from pyarrow import types

    if old == new or types.is_null(new):
        return old
    if types.is_null(old):
        return new
    if types.is_list(old) and types.is_list(new):
        return pyarrow.list_(_join(old.value_type, new.value_type))
    if types.is_struct(old) and types.is_struct(new):
        fields = {field.name: field.type for field in old}
        try:
            for field in new:
                fields[field.name] = _join(fields.get(field.name, pyarrow.null()), field.type)
        except _Mixed as error:
            error.in_object = True
            raise
        return pyarrow.struct(list(fields.items()))
    if {old, new} == {pyarrow.int64(), pyarrow.float64()}:
        return pyarrow.float64()
    raise _Mixed(old, new)


def _in_words(type: "pyarrow.DataType") -> str:
    """What a message calls a type."""
    from pyarrow import types

    names = {
        "text": types.is_string,
        "true or false": types.is_boolean,
        "a whole number": types.is_integer,
        "a number": types.is_floating,
        "a list": types.is_list,
    }
    return next((name for name, is_one in names.items() if is_one(type)), "an object")


__all__ = ["column_types"]
