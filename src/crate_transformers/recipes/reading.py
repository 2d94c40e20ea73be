"""A strict reader for the YAML of recipes and of `--set`: every text has one meaning, or is refused with its place.

It refuses what yaml itself accepts: a key that stands twice, a key that is no name, merge keys, tags, numbers that are
not finite or beyond 64 bits, control characters. It bounds size, depth and the number of values, so that no file costs
more than seconds. As in YAML 1.2, 1e-4 is a number, and 010, 1:30 and dates are text.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ..errors import UserError

MAX_BYTES = 1 << 20
MAX_DEPTH = 16
MAX_VALUES = 50_000

Scalar = str | int | float | bool | None  # a value that is no list and no mapping

_PLAIN = "plain"  # the tag of a scalar without quotes and without a tag of its own
_DEFAULT_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map")) | {_PLAIN}
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null"), None),
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
_NUMBER = re.compile(r"[-+]?(\.?[0-9])[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")  # octal in YAML 1.1, decimal in 1.2
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_DIGITS = 19  # of 2^63


def read_yaml(text: str, source: str, is_value: bool = False) -> tuple[Any, dict[str, str]]:
    """Read one YAML document.

    Args:
        source: the name of the text in messages.
        is_value: whether the text is the value of one key, and no recipe. Then integers may be keys
            ({0: cat, 1: dog}), and `# ...` is refused, because the user meant it as a part of the value.

    Returns:
        the value, None for an empty text; and the place of every key: "train.seed" -> "own.yaml, line 7, column 3".

    Raises:
        UserError: the text is not YAML, or is refused (see the top of this file). The message has the place, and the
            key where there is one.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{source} is longer than {MAX_BYTES:,} characters: no recipe is")
    try:
        loader = _Loader(text)
        loader.name = source
        node = loader.get_single_node()
    except UserError:
        raise
    except yaml.reader.ReaderError as error:
        raise UserError(f"{_place_in(text, error.position, source)}: {_forbidden(chr(error.character))}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{_place(mark) if mark else source}: not YAML: {_problem_of(error)}") from error
    except (ValueError, OverflowError) as error:  # of yaml's own arithmetic: an escape beyond Unicode, a long version
        raise UserError(f"{source}: not YAML: {error}") from error
    end = 0 if node is None else node.end_mark.index
    if is_value and text[end:].strip():
        raise UserError(f"{source}: {text[end:].strip()!r} is a comment in YAML: put quotes around the whole value")
    reading = _Reading(level_of_values=0 if is_value else 2)
    return (None if node is None else reading.value(node, "", 0)), reading.places


def read_yaml_file(path: Path) -> tuple[Any, dict[str, str]]:
    """Read a file as `read_yaml` does; it must be UTF-8, and no larger than MAX_BYTES."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES:,} bytes: no recipe is")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        raise UserError(
            f"{_place_in(before, len(before), str(path))}: not UTF-8 text (byte 0x{raw[error.start]:02x}): save it as "
            "UTF-8"
        ) from error
    return read_yaml(text, str(path))


def plain_value(text: str) -> Scalar:
    """The value of a text without quotes: None, a truth value, a number, or the text itself.

    Raises:
        ValueError: the number is not finite, or the integer is beyond 64 bits.

    Example:
        >>> [plain_value(text) for text in ("3", "1e-4", "yes", "~", "010", "1:30")]
        [3, 0.0001, True, None, '010', '1:30']
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("is not a finite number")
    if not is_number_text(text):
        return text
    digits = text.lstrip("+-").replace("_", "")
    if digits.isdecimal():
        if len(digits) > _DIGITS or int(digits) >= 2**63:
            raise ValueError(f"is an integer of {len(digits)} digits: expected one below 2^63")
        return -int(digits) if text.startswith("-") else int(digits)
    number = float(text.replace("_", ""))
    if number in (float("inf"), float("-inf")):
        raise ValueError("is larger than a number can be (1.8e308)")
    return number


def is_number_text(text: str) -> bool:
    """Whether a text without quotes is read as a number."""
    return _NUMBER.fullmatch(text) is not None and _LEADING_ZERO.fullmatch(text) is None


class _Loader(yaml.BaseLoader):
    """Composes nodes, whose depth and number it bounds, and gives scalars without quotes a tag of their own."""

    def __init__(self, text: str):
        super().__init__(text)
        self.keys: list[str] = []  # of the node that is being composed: one a level, "" where there is none
        self.count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # a key has a node as index
        self.keys.append(index.value if isinstance(index, yaml.ScalarNode) else "")
        self.count += 1
        if len(self.keys) > MAX_DEPTH:
            self._refuse(f"is nested deeper than {MAX_DEPTH} levels")
        if self.count > MAX_VALUES:
            self._refuse(f"makes more than {MAX_VALUES:,} values")
        node = super().compose_node(parent, index)
        self.keys.pop()
        return node

    def _refuse(self, problem: str) -> NoReturn:
        key = ".".join(filter(None, self.keys))
        raise UserError(f"{_place(self.peek_event().start_mark)}: {_shown(key)} {problem}")

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:  # for scalars, two flags
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)


class _Reading:
    """Turns nodes into values.

    Attributes:
        places: the place of every key so far.
        left: the number of values that may still come; an alias counts each time.
        level_of_values: the level from which on keys are parts of a value; above it are sections and names.
    """

    def __init__(self, level_of_values: int):
        self.level_of_values = level_of_values
        self.places: dict[str, str] = {}
        self.left = MAX_VALUES

    def value(self, node: yaml.Node, key: str, depth: int) -> object:
        """The value of a node at `key`, `depth` levels below the top."""
        self.left -= 1
        if depth > MAX_DEPTH:  # what is written is no deeper
            _refuse(node, key, f"is nested deeper than {MAX_DEPTH} levels by an alias (*), perhaps of itself")
        if self.left < 0:
            _refuse(node, key, f"grows to more than {MAX_VALUES:,} values: write them out instead of using aliases (*)")
        if node.tag not in _DEFAULT_TAGS:
            _refuse(node, key, f"has the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}: leave tags out")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{key}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key, depth)
        return _scalar(node, key)

    def _mapping(self, node: yaml.MappingNode, key: str, depth: int) -> dict[str | int, object]:
        found: dict[str | int, object] = {}
        first: dict[str | int, int] = {}
        for key_node, value_node in node.value:
            name = _name(key_node, key, numbers=depth >= self.level_of_values)
            path = f"{key}.{name}" if key else str(name)
            if name in found:
                _refuse(key_node, path, f"stands twice, first on line {first[name]}: leave one out")
            first[name] = key_node.start_mark.line + 1
            self.places[path] = _place(key_node.start_mark)
            found[name] = self.value(value_node, path, depth + 1)
        return found


def _scalar(node: yaml.Node, key: str) -> Scalar:
    for character in node.value:
        if unicodedata.category(character) == "Cc" and character not in "\t\n\r":
            _refuse(node, key, _forbidden(character))
    if node.tag != _PLAIN:
        return node.value
    try:
        return plain_value(node.value)
    except ValueError as error:
        _refuse(node, key, str(error))


def _name(node: yaml.Node, parent: str, numbers: bool) -> str | int:
    """The name that a key stands for; with `numbers`, as within a value, an integer too."""
    if not isinstance(node, yaml.ScalarNode):
        _refuse(node, parent, "has a list or a mapping as a key: expected a name")
    if node.tag == _PLAIN and node.value == "<<":
        _refuse(node, parent, "has a merge key (<<): write the keys out")
    name = _untagged(node, parent)
    if isinstance(name, str) or (numbers and isinstance(name, int) and not isinstance(name, bool)):
        return name
    _refuse(node, parent, f"has a key {node.value!r} that YAML reads as {name!r}: expected a name; quotes make it one")


def _untagged(node: yaml.Node, parent: str) -> Scalar:
    """The value of a key, which must have no tag."""
    if node.tag not in _DEFAULT_TAGS:
        _refuse(node, parent, f"has a key with the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}: leave tags out")
    return _scalar(node, parent)


def _refuse(node: yaml.Node, key: str, problem: str) -> NoReturn:
    raise UserError(f"{_place(node.start_mark)}: {_shown(key)} {problem}")


def _shown(key: str) -> str:
    return (key if len(key) <= 60 else f"{key[:60]}...") or "it"


def _place(mark: yaml.Mark) -> str:
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}"


def _place_in(text: str, position: int, source: str) -> str:
    lines = text[:position].split("\n")
    return f"{source}, line {len(lines)}, column {len(lines[-1]) + 1}"


def _forbidden(character: str) -> str:
    return f"holds the character U+{ord(character):04X}, which no recipe may hold: take it out"


def _problem_of(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(part for part in (error.context, error.problem) if part)


__all__ = ["is_number_text", "plain_value", "read_yaml", "read_yaml_file"]
