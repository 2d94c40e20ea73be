"""Which type each column of some files has: read once from end to end, so that a row that does not fit is named."""

from pathlib import Path
from typing import Any

from ..errors import UserError
from .table_files import read_rows


class _Mixed(Exception):
    """Two types that are none together. in_object: within a {...}, not in the column itself."""

    def __init__(self, old: Any, new: Any, in_object: bool = False):
        super().__init__(f"{_kind(new)} where it held {_kind(old)} before")
        self.in_object = in_object


def column_types(kind: str, paths: list[Path]) -> tuple[Any, tuple[str, ...], int]:
    """(pyarrow schema, columns whose objects differ in their types, number of rows) of csv or json files.

    csv: all columns are text. json: the types of the values; whole numbers beside others are numbers. Objects whose
    fields differ in type from row to row have no type of their own: they are to be kept as text.

    Raises:
        ValueError: csv files with different columns, a column of mixed types; named with the row, counted from 0.
    """
    import pyarrow  # comes with datasets

    types: dict[str, Any] = {}
    mixed: set[str] = set()
    count = 0
    for path in paths:
        for index, row in enumerate(read_rows(kind, path)):
            if kind == "csv" and index == 0:
                if types and types.keys() != row.keys():
                    raise UserError(f"{path} has the columns {', '.join(row)}, {paths[0]} {', '.join(types)}")
                types = types or dict.fromkeys(row, pyarrow.string())
            for name, value in row.items() if kind == "json" else ():
                if name in mixed:
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
            count += 1
    return pyarrow.schema(list(types.items())), tuple(sorted(mixed)), count


def _type_of(value: Any) -> Any:
    import pyarrow

    if isinstance(value, dict):
        return pyarrow.struct([(name, _type_of(one)) for name, one in value.items()])
    if isinstance(value, list):
        item = pyarrow.null()
        for one in value:
            item = _join(item, _type_of(one))
        return pyarrow.list_(item)
    if isinstance(value, str):
        value.encode("utf-8")  # half a surrogate pair is a ValueError
        return pyarrow.string()
    if isinstance(value, bool):
        return pyarrow.bool_()
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{value} has more than 64 bits: write it as text")
        return pyarrow.int64()
    return pyarrow.null() if value is None else pyarrow.float64()


def _join(old: Any, new: Any) -> Any:
    """The type that holds both; None goes with everything."""
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


def _kind(type: Any) -> str:
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
